//! Text of guests on its way to a terminal, a report or a Python exception.

/// Escapes characters that could control a terminal or mislead a reader, except line feeds and tabs: control
/// characters, bidirectional marks and overrides, invisible characters. `ESC` becomes `\u{1b}`.
pub fn escape(text: &str) -> String {
    let seen = |character| matches!(character, '\n' | '\t') || !is_hidden(character);
    text.chars().fold(String::with_capacity(text.len()), |out, character| push(out, character, seen))
}

/// As [`escape`], for a text that must stay on one line: line feeds and tabs are escaped too.
pub fn escape_line(text: &str) -> String {
    let seen = |character| !is_hidden(character);
    text.chars().fold(String::with_capacity(text.len()), |out, character| push(out, character, seen))
}

fn push(mut out: String, character: char, seen: impl Fn(char) -> bool) -> String {
    if seen(character) {
        out.push(character);
    } else {
        out.extend(character.escape_default());
    }
    out
}

/// The beginning of a text as a message shows it: escaped as by [`escape_line`]. After `chars_max` characters the rest
/// becomes `…`.
pub fn plain(text: &str, chars_max: usize) -> String {
    match text.char_indices().nth(chars_max) {
        Some((end, _)) => escape_line(&text[..end]) + "…",
        None => escape_line(text),
    }
}

/// An untrusted text as a message: on one line, with `; ` between its own lines, escaped as by [`escape_line`]. No line
/// of it can pass for a line of ours.
pub fn one_line(text: &str) -> String {
    let lines: Vec<String> = text.lines().map(str::trim).filter(|line| !line.is_empty()).map(escape_line).collect();
    lines.join("; ")
}

/// Whether a character could control a terminal, or is invisible: controls (C0, DEL, C1), bidirectional marks and
/// overrides, invisible and zero-width characters, variation selectors, tags.
pub(crate) fn is_hidden(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e0fff}')
}

/// A text as one word in a shell: escaped, and quoted unless all its characters are harmless there.
pub fn argument(text: &str) -> String {
    let text = escape_line(text);
    let bare = |character: char| character.is_ascii_alphanumeric() || "=/._:+-,@%".contains(character);
    if !text.is_empty() && text.chars().all(bare) { text } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

/// A user's text without the byte order mark (U+FEFF, three bytes in UTF-8) that some editors put before it.
pub(crate) fn without_mark(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

/// Cuts a text to at most `bytes`, at a character boundary.
pub fn cut(text: &mut String, bytes: usize) {
    if text.len() > bytes {
        text.truncate(text.floor_char_boundary(bytes));
    }
}

/// Bytes of a word that is searched for typing mistakes: the work is the product of both lengths.
const WORD_BYTES_MAX: usize = 60;

/// The known word that was probably meant. One letter in three may be wrong; case does not count, and `-` counts as
/// `_`.
pub(crate) fn nearest<'k>(given: &str, known: &[&'k str]) -> Option<&'k str> {
    let folded = |word: &str| word.to_lowercase().replace('-', "_");
    let short = |word: &str| word.len() <= WORD_BYTES_MAX;
    if !short(given) {
        return None;
    }
    let given = folded(given);
    let candidates = known.iter().filter(|word| short(word)).map(|word| {
        let known = folded(word);
        let distance = strsim::damerau_levenshtein(&given, &known);
        (distance, known.chars().count().max(given.chars().count()), *word)
    });
    let near = candidates.filter(|(distance, length, _)| distance * 3 <= *length);
    near.min_by_key(|(distance, _, _)| *distance).map(|(_, _, word)| word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_recognised() {
        let names = ["blackjack", "cartpole", "frozenlake"];
        for (given, expected) in [
            ("cartpol", Some("cartpole")),
            ("CartPole", Some("cartpole")),
            ("frozen-lake", Some("frozenlake")),
            ("pong", None),
            ("", None),
        ] {
            assert_eq!(nearest(given, &names), expected, "{given}");
        }
    }

    #[test]
    fn what_is_plain_is_cut_at_a_character() {
        assert_eq!(plain("aäb", 2), "aä…");
        assert_eq!(plain("aäb", 3), "aäb");
        assert_eq!(plain("\r\u{1b}b", 2), "\\r\\u{1b}…");
    }

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
