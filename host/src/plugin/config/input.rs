//! What people type (`key=value`, files, Rust values) as JSON values.
//!
//! All readers go through [`Reading`], which refuses what JSON would lose silently: not-a-number, infinities, integers
//! beyond 64 bits, a key given twice.

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde::{Serialize, de};
use serde_json::{Map, Value};
use toml::de::{DeValue, ValueDeserializer};

use super::words::{is_bare, key, shown};
use super::{CONFIG_FILE_BYTES_MAX, NESTING_MAX, Path, finite};
use crate::error::UsageError;
use crate::text::plain;

/// The key that `toml` gives a date, which it can express in no other way.
const TOML_DATE: &str = "$__toml_private_datetime";

/// Characters of a parser's message.
const COMPLAINT_MAX: usize = 300;

/// Reads `map.size=8`: a dotted path and a value.
///
/// The path is TOML's: keys with characters other than letters, digits, `_` and `-` are quoted. The value is TOML too;
/// a value that does not parse, or is a date, is taken as a string. `null`, which TOML lacks, is null; `"null"` is a
/// string, and `key=` sets the empty string.
///
/// # Errors
///
/// No `=`, a malformed path, and numbers that are not finite or not within 64 bits.
pub fn parse_assignment(text: &str) -> Result<(Vec<String>, Value), UsageError> {
    let wrong = |why: &str| {
        UsageError::new(format!("config: expected KEY=VALUE, got {}; {why}", shown(&Value::from(text))))
            .hint("for example `gravity=9.8`, `map.size=8`, `name=anything` or `'list=[1, 2]'`")
    };
    let (path, value) = parse_path(text).map_err(wrong)?;
    let reading = path
        .iter()
        .fold(String::new(), |path, name| if path.is_empty() { key(name) } else { format!("{path}.{}", key(name)) });
    let value = parse_value(value).map_err(|why| UsageError::new(format!("config `{reading}`: {why}")))?;
    Ok((path, value))
}

/// Splits the keys before the first `=` outside quotes from the rest.
fn parse_path(text: &str) -> Result<(Vec<String>, &str), &'static str> {
    let mut path = vec![];
    let mut rest = text.trim_start();
    loop {
        let (name, after) = match rest.chars().next() {
            Some(quote @ ('"' | '\'')) => {
                let end = quoted_end(rest, quote).ok_or("a quote is not closed")?;
                let (quoted, after) = rest.split_at(end);
                let name =
                    ValueDeserializer::parse(quoted).ok().and_then(|name| de::Deserialize::deserialize(name).ok());
                (name.ok_or("a quoted key is not a TOML string")?, after)
            }
            _ => {
                let end = rest.find(|char| !is_bare(char)).unwrap_or(rest.len());
                let (name, after) = rest.split_at(end);
                (name.to_owned(), after)
            }
        };
        if name.is_empty() && !rest.starts_with(['"', '\'']) {
            return Err(if rest.is_empty() { "there is no `=`" } else { "a key is missing or needs quotes" });
        }
        path.push(name);
        if path.len() > NESTING_MAX {
            return Err("the path is too long");
        }
        let after = after.trim_start();
        if let Some(value) = after.strip_prefix('=') {
            return Ok((path, value));
        }
        rest = match after.strip_prefix('.') {
            Some(next) => next.trim_start(),
            None if after.is_empty() => return Err("there is no `=`"),
            None => return Err("a key with other characters than letters, digits, `_` and `-` needs quotes"),
        };
    }
}

/// Where the string at the beginning of `text` ends, its quote included.
fn quoted_end(text: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    for (index, char) in text.char_indices().skip(1) {
        match char {
            _ if escaped => escaped = false,
            '\\' if quote == '"' => escaped = true,
            char if char == quote => return Some(index + 1),
            _ => {}
        }
    }
    None
}

fn parse_value(text: &str) -> Result<Value, String> {
    let trimmed = text.trim();
    if trimmed == "null" {
        return Ok(Value::Null);
    }
    match DeValue::parse(trimmed) {
        Ok(value) if value.as_ref().is_datetime() => Ok(Value::from(text)),
        Ok(value) => {
            let value = read(|reading| reading.deserialize(ValueDeserializer::from(value)));
            value.map_err(|error| plain(error.message(), COMPLAINT_MAX))
        }
        Err(_) => Ok(Value::from(text)),
    }
}

/// Sets one value; of two values for one path, the later wins. Missing objects on the way are made.
///
/// # Errors
///
/// A value on the way is not an object; the message names it and the path.
pub fn assign(config: &mut Value, path: &[String], value: Value) -> Result<(), UsageError> {
    let names = |path: &[String]| path.iter().map(|name| key(name)).collect::<Vec<_>>().join(".");
    if path.len() > NESTING_MAX {
        return Err(UsageError::new(format!("config: a path of {} keys is too long", path.len())));
    }
    let mut place = config;
    for (depth, name) in path.iter().enumerate() {
        let Value::Object(members) = place else {
            let (whole, parent) = (names(path), names(path.get(..depth).unwrap_or_default()));
            let parent = if parent.is_empty() { "the config".to_owned() } else { format!("`{parent}`") };
            return Err(UsageError::new(format!(
                "config `{whole}`: {parent} is {}, not an object with keys",
                shown(place)
            )));
        };
        place = members
            .entry(name.as_str())
            .or_insert_with(|| if depth + 1 == path.len() { Value::Null } else { Value::Object(Map::new()) });
    }
    *place = value;
    Ok(())
}

/// Lays one config over another: objects are merged key by key, of all other values the later wins.
pub fn merge(base: Value, over: Value) -> Value {
    match (base, over) {
        (Value::Object(mut base), Value::Object(over)) => {
            for (key, value) in over {
                let merged = match base.get_mut(&key) {
                    Some(below) => merge(below.take(), value),
                    None => value,
                };
                base.insert(key, merged);
            }
            Value::Object(base)
        }
        (_, over) => over,
    }
}

/// Makes a config from a Rust value.
///
/// # Errors
///
/// The value is not an object, or holds what JSON cannot: not-a-number, an infinity, a map with keys that are not
/// strings, a `Serialize` that fails.
pub fn from_serialize(config: &(impl Serialize + ?Sized)) -> Result<Value, UsageError> {
    let wrong = |why: String| UsageError::new(plain(&why, COMPLAINT_MAX));
    finite::check(config).map_err(|error| wrong(error.to_string()))?;
    let value = serde_json::to_value(config).map_err(|error| wrong(format!("config: {error}")))?;
    if !value.is_object() {
        return Err(UsageError::new(format!("config: expected an object, got {}", shown(&value))));
    }
    Ok(value)
}

/// Reads a config file. The ending of its name says the format: `.toml`, `.json`, `.yaml` or `.yml`.
///
/// # Errors
///
/// Another ending, more than 1 MiB, a text that does not parse (with line and column), a top value that is not an
/// object, a key given twice, and numbers that JSON does not have.
pub fn parse_file(name: &str, text: &str) -> Result<Value, UsageError> {
    let shown_name = plain(name, 200);
    let wrong = |why: String| UsageError::new(format!("config file `{shown_name}`: {why}"));
    if text.len() > CONFIG_FILE_BYTES_MAX {
        return Err(wrong(format!("{} bytes; at most {CONFIG_FILE_BYTES_MAX} are read", text.len())));
    }
    let text = crate::text::without_mark(text);
    let extension = std::path::Path::new(name).extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    let value = match extension.to_ascii_lowercase().as_str() {
        "toml" => toml(text),
        "json" => json(text),
        "yaml" | "yml" => yaml(text),
        _ => return Err(wrong("expected a name that ends in .toml, .json, .yaml or .yml".to_owned())),
    };
    let value = value.map_err(|why| wrong(plain(&why, COMPLAINT_MAX)))?;
    if !value.is_object() {
        return Err(wrong(format!("expected keys and values at the top, got {}", shown(&value))));
    }
    Ok(value)
}

/// Reads TOML, also of files other than configs. Errors have their line and column.
pub(crate) fn toml(text: &str) -> Result<Value, String> {
    let value = toml::de::Deserializer::parse(text).and_then(|toml| read(|reading| reading.deserialize(toml)));
    value.map_err(|error| {
        let start = error.span().map(|span| text.get(..span.start).unwrap_or(text));
        let place = start.map(|before| {
            let line = before.rsplit_once('\n').map_or(before, |(_, line)| line);
            (before.matches('\n').count() + 1, line.chars().count() + 1)
        });
        placed(place, error.message())
    })
}

/// Reads JSON, also the text of a schema.
pub(super) fn json(text: &str) -> Result<Value, String> {
    let mut json = serde_json::Deserializer::from_str(text);
    let value = read(|reading| reading.deserialize(&mut json)).and_then(|value| json.end().map(|()| value));
    value.map_err(|error| {
        let why = error.to_string();
        let why = why.rsplit_once(" at line ").map_or(why.as_str(), |(why, _)| why);
        placed((error.line() > 0).then(|| (error.line(), error.column())), why)
    })
}

fn yaml(text: &str) -> Result<Value, String> {
    let options = serde_saphyr::options! {
        with_snippet: false,
        strict_booleans: true,
        non_finite_float_policy: serde_saphyr::options::NonFiniteFloatPolicy::PassThrough,
    };
    let value = serde_saphyr::with_deserializer_from_str_with_options(text, options, |yaml| {
        read(|reading| reading.deserialize(yaml))
    });
    value.map_err(|error| {
        let place = error.location().map(|place| (place.line(), place.column()));
        let why = error.without_snippet().render_with_formatter(&serde_saphyr::UserMessageFormatter);
        let why = why.rsplit_once(" at line ").map_or(why.as_str(), |(why, _)| why);
        placed(place, why)
    })
}

fn placed<N: fmt::Display>(place: Option<(N, N)>, why: &str) -> String {
    match place {
        Some((line, column)) => format!("line {line}, column {column}: {why}"),
        None => why.to_owned(),
    }
}

/// Runs a reading from the root, with as much room as a file may use.
fn read<T>(value: impl FnOnce(Reading<'_>) -> T) -> T {
    value(Reading { path: &Path::Root, room: &Cell::new(CONFIG_FILE_BYTES_MAX) })
}

/// Reads one value of any format, strictly.
#[derive(Clone, Copy)]
struct Reading<'r> {
    path: &'r Path<'r>,
    /// Bytes that may still be read. YAML aliases repeat text that was read before: a short file can be a long value.
    room: &'r Cell<usize>,
}

impl Reading<'_> {
    fn at<'p>(&'p self, path: &'p Path<'p>) -> Reading<'p> {
        Reading { path, room: self.room }
    }

    fn wrong<E: Error>(&self, why: impl fmt::Display) -> E {
        if self.path.is_root() { E::custom(why) } else { E::custom(format_args!("`{}`: {why}", self.path)) }
    }

    fn take<E: Error>(&self, bytes: usize) -> Result<(), E> {
        match self.room.get().checked_sub(bytes) {
            Some(room) => {
                self.room.set(room);
                Ok(())
            }
            None => Err(self.wrong(format_args!("more than {CONFIG_FILE_BYTES_MAX} bytes with every alias followed"))),
        }
    }

    /// Refuses values nested so deep that walking them could overflow the stack.
    fn nest<E: Error>(&self) -> Result<(), E> {
        self.take(1)?;
        if self.path.depth() >= NESTING_MAX {
            return Err(E::custom(format_args!("nested more than {NESTING_MAX} deep")));
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Reading<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Reading<'_> {
    type Value = Value;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a value that JSON has")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        self.take(1)?;
        Ok(Value::Null)
    }

    fn visit_none<E: Error>(self) -> Result<Value, E> {
        self.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, value: D) -> Result<Value, D::Error> {
        self.deserialize(value)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, value: D) -> Result<Value, D::Error> {
        self.deserialize(value)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        self.take(1)?;
        Ok(Value::from(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        self.take(1)?;
        Ok(Value::from(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        self.take(1)?;
        Ok(Value::from(value))
    }

    fn visit_i128<E: Error>(self, value: i128) -> Result<Value, E> {
        Err(self.wrong(format_args!("{value} does not fit in 64 bits")))
    }

    fn visit_u128<E: Error>(self, value: u128) -> Result<Value, E> {
        Err(self.wrong(format_args!("{value} does not fit in 64 bits")))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        self.take(1)?;
        if !value.is_finite() {
            return Err(self.wrong(format_args!("expected a finite number, got {}", finite::not_finite(value))));
        }
        Ok(Value::from(value))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        self.take(value.len() + 1)?;
        Ok(Value::from(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        self.nest()?;
        let mut list = vec![];
        while let Some(item) = items.next_element_seed(self.at(&Path::Index(self.path, list.len())))? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        self.nest()?;
        let mut object = Map::new();
        while let Some(key) = members.next_key::<String>()? {
            self.take(key.len() + 1)?;
            let path = Path::Key(self.path, &key);
            if key == TOML_DATE {
                return self.at(&path).visit_string(members.next_value()?);
            }
            if object.contains_key(&key) {
                return Err(self.at(&path).wrong("given twice"));
            }
            let value = members.next_value_seed(self.at(&path))?;
            object.insert(key, value);
        }
        Ok(Value::Object(object))
    }
}
