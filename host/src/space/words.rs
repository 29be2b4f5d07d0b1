//! Texts for values, paths and places of a space in messages.

use serde_json::Value;

use super::shape::count;
use crate::text::{escape_line, plain};

/// Characters of a text or charset that are printed; longer ones are cut.
pub(super) const CHARACTERS_SHOWN: usize = 64;

/// Quotes a text for a message.
pub(super) fn quoted(text: &str) -> String {
    format!("\"{}\"", plain(text, CHARACTERS_SHOWN))
}

/// Writes a JSON value for a message.
pub(super) fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => quoted(text),
        // The value is from a user's own file, so only the printed text is bounded; the text made here is as large as
        // the value.
        value => plain(&value.to_string(), CHARACTERS_SHOWN),
    }
}

/// The beginning of a message about `path`.
pub(super) fn at(path: &str) -> String {
    if path.is_empty() { String::new() } else { format!("`{path}`: ") }
}

/// The path of the entry `key` in the Dict at `path`.
pub(super) fn joined(path: &str, key: &str) -> String {
    let plain = |char: char| char.is_ascii_alphanumeric() || char == '_' || char == '-';
    if key.is_empty() || !key.chars().all(plain) {
        format!("{path}[\"{}\"]", escape_line(key))
    } else if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}

/// Element number `index`, in C order, as an index into `shape`: `[2, 1]`.
pub(super) fn index_of(shape: &[u32], index: usize) -> String {
    let mut rest = index;
    let mut places: Vec<String> = Vec::with_capacity(shape.len());
    for &dimension in shape.iter().rev() {
        let dimension = count(&[dimension]).max(1);
        places.push((rest % dimension).to_string());
        rest /= dimension;
    }
    places.reverse();
    format!("[{}]", places.join(", "))
}
