//! Config: one JSON object per env, from what people type and a plugin's JSON Schema.
//!
//! `input` reads what people type → `schema` accepts an untrusted schema, or says why not → `check` fills in defaults,
//! validates, and finds mistakes → `words` says what a schema allows, for messages and for the table. Reads no file,
//! terminal or environment: text comes in, values and messages go out. Neither carries a control character of the
//! plugin or the user to a terminal.

mod check;
mod finite;
mod input;
mod schema;
#[cfg(test)]
mod tests;
mod words;

pub use check::CompleteConfig;
pub(crate) use input::toml;
pub use input::{assign, from_serialize, merge, parse_assignment, parse_file};
pub use schema::{ConfigSchema, SchemaError};
pub use words::KeyRow;

use std::fmt;

/// Bytes of a complete config as canonical JSON: it must fit one message of the control socket. A file may be longer
/// ([`CONFIG_FILE_BYTES_MAX`]), since comments and white space go away.
pub const CONFIG_BYTES_MAX: usize = 60 * 1024;

/// Bytes of a config file before it is parsed.
pub const CONFIG_FILE_BYTES_MAX: usize = 1024 * 1024;

/// Properties of all objects together, with references followed: the rows of the table that `inspect` prints.
const SCHEMA_PROPERTIES_MAX: usize = 256;

/// Nesting of objects and lists, in a config and in the text of a schema. All code that walks them recurses, and a
/// stack is finite; a config written by hand has less than 10 levels.
pub const NESTING_MAX: usize = 64;

/// The largest integer that RFC 8785 writes exactly: its numbers are doubles, and 2^53 + 1 would become 2^53.
const INTEGER_MAX: i64 = (1 << 53) - 1;

/// The place of a value in a config. `Display` writes it as people type it: `map.size`, `desc[1]`, `"a.b".c`.
#[derive(Clone, Copy)]
enum Path<'p> {
    Root,
    Key(&'p Path<'p>, &'p str),
    Index(&'p Path<'p>, usize),
}

impl Path<'_> {
    fn is_root(self) -> bool {
        matches!(self, Path::Root)
    }

    fn depth(self) -> usize {
        match self {
            Path::Root => 0,
            Path::Key(parent, _) | Path::Index(parent, _) => 1 + parent.depth(),
        }
    }

    /// ``config `map.size` ``, or `config` alone for the whole.
    fn subject(self) -> String {
        if self.is_root() { "config".to_owned() } else { format!("config `{self}`") }
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Path::Root => Ok(()),
            Path::Index(parent, index) => write!(out, "{parent}[{index}]"),
            Path::Key(parent, key) => {
                if !parent.is_root() {
                    write!(out, "{parent}.")?;
                }
                out.write_str(&words::key(key))
            }
        }
    }
}
