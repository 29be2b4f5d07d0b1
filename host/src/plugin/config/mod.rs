//! Config: one JSON object per env, from what people type and a plugin's JSON Schema.
//!
//! `input` reads what people type → `schema` accepts a stranger's schema, or says why not → `check` fills defaults
//! in, validates, and finds what is wrong → `words` says what a schema allows, for messages and for the table.
//! Reads no file, terminal or environment: text comes in, values and messages go out, and neither ever carries a
//! control character of the plugin's or the user's to a terminal.

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

/// Bytes of a complete config as canonical JSON. It travels in one message of the control socket, which has this room;
/// a file may be longer ([`CONFIG_FILE_BYTES_MAX`]), since comments and white space go away.
pub const CONFIG_BYTES_MAX: usize = 60 * 1024;

/// Bytes of a config file before it is parsed.
pub const CONFIG_FILE_BYTES_MAX: usize = 1024 * 1024;

/// Properties of all objects together, references followed: the rows of the table that `inspect` prints.
const SCHEMA_PROPERTIES_MAX: usize = 256;

/// Objects and lists inside each other, in a config and in the text of a schema. Everything that walks them recurses,
/// and a stack is finite; a person's config has less than 10.
pub const NESTING_MAX: usize = 64;

/// The largest integer that RFC 8785 writes as itself: there a number is a double, and 2^53 + 1 would become 2^53.
const INTEGER_MAX: i64 = (1 << 53) - 1;

/// Where a value stands in a config; `Display` writes it as people type it: `map.size`, `desc[1]`, `"a.b".c`.
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
