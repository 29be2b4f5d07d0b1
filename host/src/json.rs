//! JSON of a guest, checked before it is read: by the guest's own worker, and again by the host, since what a worker
//! writes is a claim. Text that passes is JSON for every reader, in every language.

use serde_json::Value;

/// Levels of a guest's JSON. Every reader builds a tree: serde_json stops at 128 levels, Python at some thousand, by an
/// exception.
pub(crate) const JSON_DEPTH_MAX: usize = 64;

/// Checks that a text is JSON, no deeper than [`JSON_DEPTH_MAX`]. The error begins with `what` the text is. The caller
/// has checked the length; the check itself recurses only to a bound.
pub(crate) fn check(what: &str, text: &str) -> Result<(), String> {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => depth += 1,
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > JSON_DEPTH_MAX {
            return Err(format!("{what} is nested more than {JSON_DEPTH_MAX} deep"));
        }
    }
    // Parsed into values, as the readers will do: skipping would pass numbers and escapes that no value can hold.
    serde_json::from_str::<Value>(text).map(drop).map_err(|error| format!("{what} is not JSON: {error}"))
}

/// As [`check`], for a text that must be an object.
pub(crate) fn check_object(what: &str, text: &str) -> Result<(), String> {
    // A valid JSON text that begins with a brace is an object.
    if !text.trim_ascii_start().starts_with('{') {
        return Err(format!("{what} is not a JSON object"));
    }
    check(what, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_some_reader_would_choke_on_does_not_pass() {
        let digits = "1".repeat(5_000);
        let wrong = [
            "{",
            "{} {}",
            "[1]",
            "\u{feff}{}",
            "\u{a0}{}",
            r#"{"a": NaN}"#,
            r#"{"a": 01}"#,
            r#"{"a": 1e999}"#,
            r#"{"a": "\ud800"}"#,
            "{\"a\": \"\n\"}",
            &format!("{{\"a\": {digits}}}"),
            &format!("{{\"a\": {}", "[".repeat(10_000)),
        ];
        for text in wrong {
            assert!(check_object("it", text).is_err(), "{text:.20}");
        }
        let integer = format!("{{\"a\": {}}}", "1".repeat(300));
        for text in [" \n{\"a\": 18446744073709551616}", "{\"a\": {}, \"a\": [null]}", &integer] {
            assert_eq!(check_object("it", text), Ok(()));
        }
    }
}
