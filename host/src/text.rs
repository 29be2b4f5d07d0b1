//! Guest text on its way to a terminal, a report or a message of Python's.

/// Escapes what could act on a terminal or mislead a reader, but for the line feed and the tab: control characters,
/// bidirectional marks and overrides, characters that are not seen. `ESC` becomes `\u{1b}`.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        if is_hidden(character) && !matches!(character, '\n' | '\t') {
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
        if is_hidden(character) {
            out.extend(character.escape_default());
        } else {
            out.push(character);
        }
    }
    out
}

/// A text of somebody else's as a message: on one line, its own lines parted by `; `, escaped as by [`escape_line`]. No line of
/// it can pass for one of ours.
pub fn one_line(text: &str) -> String {
    let lines: Vec<String> = text.lines().map(str::trim).filter(|line| !line.is_empty()).map(escape_line).collect();
    lines.join("; ")
}

/// Whether a character could act on a terminal, or is not seen: controls (C0, DEL, C1), bidirectional marks and overrides,
/// invisible and zero-width characters, variation selectors, tags.
pub(crate) fn is_hidden(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e0fff}')
}

/// A text as it is typed in a shell, as one word: escaped, and quoted unless no character of it means anything there.
pub fn argument(text: &str) -> String {
    let text = escape_line(text);
    let bare = |character: char| character.is_ascii_alphanumeric() || "=/._:+-,@%".contains(character);
    if !text.is_empty() && text.chars().all(bare) { text } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

/// A user's text without the mark that some editors put before it (U+FEFF, of UTF-8 three bytes).
pub(crate) fn without_mark(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
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
        assert_eq!(one_line(" a\r\n\nhint: \x1b[1mb\u{202e}\n"), "a; hint: \\u{1b}[1mb\\u{202e}");
    }

    #[test]
    fn an_argument_is_one_word_of_a_shell() {
        for (text, word) in [
            ("./envs/maze-1.wasm", "./envs/maze-1.wasm"),
            ("my env.wasm", "'my env.wasm'"),
            ("", "''"),
            ("a'b", "'a'\\''b'"),
            ("$(id)", "'$(id)'"),
            ("a\nb", "'a\\nb'"),
        ] {
            assert_eq!(argument(text), word);
        }
    }

    #[test]
    fn a_cut_keeps_whole_characters() {
        let mut text = "aäb".to_owned();
        cut(&mut text, 2);
        assert_eq!(text, "a");
    }
}
