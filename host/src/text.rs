//! Guest text on its way to a terminal or a report.

/// Escapes what could act on a terminal or mislead a reader: control characters (C0, DEL, C1) but for the line feed
/// and tab, and the bidirectional overrides. `ESC` becomes `\u{1b}`.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        if is_dangerous(character) && !matches!(character, '\n' | '\t') {
            out.extend(character.escape_default());
        } else {
            out.push(character);
        }
    }
    out
}

/// As [`escape`], for text that must stay on one line: line feeds and tabs are escaped too.
pub fn escape_line(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        if is_dangerous(character) {
            out.extend(character.escape_default());
        } else {
            out.push(character);
        }
    }
    out
}

fn is_dangerous(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200e}' | '\u{200f}' | '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Cuts a text to at most `bytes`, at a character's border.
pub fn cut(text: &mut String, bytes: usize) {
    if text.len() > bytes {
        text.truncate(text.floor_char_boundary(bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_sequences_do_not_survive() {
        assert_eq!(escape("a\x1b[2Jb\r\nc\td\u{9b}31m\u{202e}"), "a\\u{1b}[2Jb\\r\nc\td\\u{9b}31m\\u{202e}");
        assert_eq!(escape_line("a\nb"), "a\\nb");
        assert_eq!(escape("Grüße ▲"), "Grüße ▲");
    }

    #[test]
    fn a_cut_keeps_whole_characters() {
        let mut text = "aäb".to_owned();
        cut(&mut text, 2);
        assert_eq!(text, "a");
    }
}
