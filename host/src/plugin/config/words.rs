//! What a schema allows, in words: for messages (`a number from 0 to 100`) and for the table of keys.
//!
//! All text here is a plugin's or a user's, on its way to a terminal: it is escaped, and cut.

use serde::Serialize;
use serde_json::{Map, Value};

use super::{INTEGER_MAX, SCHEMA_PROPERTIES_MAX};
use crate::text::plain;

/// Characters of a value that is shown in a message.
const SHOWN_MAX: usize = 80;

/// Characters of a key: a typical key has 20.
const KEY_MAX: usize = 60;

/// Characters of the text that says what is allowed.
const ALLOWED_MAX: usize = 400;

/// Characters of a key's description in the table.
const DOC_MAX: usize = 400;

/// Values, keys or alternatives that are listed; further ones are only counted.
const LISTED_MAX: usize = 20;

/// Required keys that are named where an object is expected; more than this many are not named.
const REQUIRED_MAX: usize = 4;

/// One key of a plugin's config, as the table of `rollcage inspect` shows it. Every text is printable and short.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeyRow {
    /// The dotted path; `obstacles[].x` for a key of the objects in a list.
    pub key: String,
    /// The kinds of value that the key takes: `number`, `list of strings`, `string or null`.
    pub type_text: String,
    /// The default as JSON, `required` if a value must be given, or nothing.
    pub default: String,
    /// The limits of the value: `from 0 to 100`, ``one of `4x4`, `8x8` ``, or nothing.
    pub range: String,
    /// The author's description, on one line.
    pub doc: String,
}

/// A value as compact JSON, printable and cut.
pub(super) fn shown(value: &Value) -> String {
    plain(&value.to_string(), SHOWN_MAX)
}

/// A key as it is typed in a dotted path: quoted unless it is bare.
pub(super) fn key(key: &str) -> String {
    let bare = !key.is_empty() && key.chars().all(is_bare);
    plain(&if bare { key.to_owned() } else { Value::from(key).to_string() }, KEY_MAX)
}

/// Whether a character may stand in a key without quotes.
pub(super) fn is_bare(char: char) -> bool {
    char.is_alphanumeric() || char == '_' || char == '-'
}

/// Items separated by commas; of many items, the first ones and the number of the rest.
pub(super) fn list(items: impl ExactSizeIterator<Item = String>) -> String {
    let more = items.len().saturating_sub(LISTED_MAX);
    let mut listed: Vec<_> = items.take(LISTED_MAX).collect();
    if more > 0 {
        listed.push(format!("… ({more} more)"));
    }
    listed.join(", ")
}

/// `1 key`, `2 keys`.
pub(super) fn counted(number: u64, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// The values that a schema allows, with an article: `a number from 0 to 100`, ``one of `4x4`, `8x8` or null``.
pub(super) fn allowed(schema: &Value) -> String {
    plain(&Words::of(schema).phrase(), ALLOWED_MAX)
}

/// ``one of `4x4`, `8x8` ``, or the only value.
pub(super) fn one_of(values: &[&Value]) -> String {
    // Words are shown without quotes, unless another listed value would look alike.
    let bare = values.iter().all(|value| value.is_string());
    let quoted = values.iter().map(|value| match value {
        Value::String(text) if bare => format!("`{}`", plain(text, SHOWN_MAX)),
        value => format!("`{}`", shown(value)),
    });
    if values.len() == 1 { list(quoted) } else { format!("one of {}", list(quoted)) }
}

/// A schema's alternatives: constants, other kinds of value, and null.
#[derive(Default)]
struct Words<'s> {
    constants: Vec<&'s Value>,
    kinds: Vec<Kind>,
    null: bool,
}

/// One kind of value, in words.
#[derive(PartialEq)]
struct Kind {
    /// The kind with article and limits: `a string of 1 to 8 characters`.
    phrase: String,
    /// The kind alone: `string`.
    pub(super) name: String,
    /// The limits alone: `1 to 8 characters`.
    limits: String,
    /// The plural, if there are no limits: `strings`.
    plural: Option<&'static str>,
}

impl Kind {
    fn new(article: &str, name: &str, plural: &'static str, limits: String) -> Kind {
        let phrase = format!("{article}{name}{}{limits}", if limits.is_empty() { "" } else { " " });
        Kind { phrase, name: name.to_owned(), plural: limits.is_empty().then_some(plural), limits }
    }

    fn any() -> Kind {
        Kind { phrase: "any value".to_owned(), name: "any".to_owned(), limits: String::new(), plural: Some("values") }
    }
}

impl<'s> Words<'s> {
    fn of(schema: &'s Value) -> Words<'s> {
        let schema = match schema {
            Value::Object(schema) => schema,
            Value::Bool(false) => {
                let nothing = Kind::new("", "nothing", "nothing", String::new());
                return Words { kinds: vec![nothing], ..Words::default() };
            }
            _ => return Words { kinds: vec![Kind::any()], ..Words::default() },
        };
        let mut words = Words::default();
        if let Some(constant) = schema.get("const") {
            words.constant(constant);
        } else if let Some(Value::Array(constants)) = schema.get("enum") {
            constants.iter().for_each(|constant| words.constant(constant));
        } else if let Some(kind) = schema.get("type") {
            match kind {
                Value::Array(kinds) => kinds.iter().for_each(|kind| words.kind(schema, kind)),
                kind => words.kind(schema, kind),
            }
        } else if let Some(Value::Array(branches)) = schema.get("anyOf").or(schema.get("oneOf")) {
            for branch in branches {
                let branch = Words::of(branch);
                words.constants.extend(branch.constants);
                words.null |= branch.null;
                for kind in branch.kinds {
                    // Alternatives of one kind, such as objects with different keys, are named once.
                    if words.kinds.len() <= LISTED_MAX && !words.kinds.contains(&kind) {
                        words.kinds.push(kind);
                    }
                }
            }
        } else if schema.contains_key("properties") {
            words.kind(schema, &Value::from("object"));
        } else if let Some(Value::Array(all)) = schema.get("allOf") {
            let mut each = all.iter().map(Words::of);
            words = each.find(|words| words.kinds != [Kind::any()]).unwrap_or_default();
        } else if let Some(kind) = implied(schema) {
            words.kind(schema, &Value::from(kind));
        }
        if words.constants.is_empty() && words.kinds.is_empty() && !words.null {
            words.kinds.push(Kind::any());
        }
        words
    }

    fn constant(&mut self, constant: &'s Value) {
        match constant {
            Value::Null => self.null = true,
            constant => self.constants.push(constant),
        }
    }

    fn kind(&mut self, schema: &'s Map<String, Value>, kind: &Value) {
        let kind = match kind.as_str() {
            Some("null") => {
                self.null = true;
                return;
            }
            Some("boolean") => {
                Kind { phrase: "true or false".to_owned(), ..Kind::new("", "boolean", "booleans", String::new()) }
            }
            Some("integer") => Kind::new("an ", "integer", "integers", number_limits(schema)),
            Some("number") => Kind::new("a ", "number", "numbers", number_limits(schema)),
            Some("string") => Kind::new("a ", "string", "strings", string_limits(schema)),
            Some("array") => array(schema),
            Some("object") => object(schema),
            _ => Kind::any(),
        };
        self.kinds.push(kind);
    }

    fn phrase(&self) -> String {
        let constants = (!self.constants.is_empty()).then(|| one_of(&self.constants));
        let mut parts: Vec<_> =
            constants.into_iter().chain(self.kinds.iter().map(|kind| kind.phrase.clone())).collect();
        // "a list, each a string or null" would let the items be null.
        if self.null && parts.iter().any(|part| part.contains(", each ")) {
            return format!("{}, or null", alternatives(parts));
        }
        parts.extend(self.null.then(|| "null".to_owned()));
        alternatives(parts)
    }

    fn names(&self) -> String {
        let mut names: Vec<String> = vec![];
        let constants = self.constants.iter().map(|constant| match constant {
            Value::Bool(_) => "boolean",
            Value::Number(_) => "number",
            Value::Array(_) => "list",
            Value::Object(_) => "object",
            _ => "string",
        });
        let kinds = self.kinds.iter().map(|kind| kind.name.as_str());
        for name in constants.chain(kinds).chain(self.null.then_some("null")) {
            if names.iter().all(|known| known != name) {
                names.push(name.to_owned());
            }
        }
        alternatives(names)
    }

    fn limits(&self) -> String {
        let limits = self.kinds.iter().map(|kind| kind.limits.strip_prefix("of ").unwrap_or(&kind.limits).to_owned());
        let mut limits: Vec<_> = limits.filter(|limits| !limits.is_empty()).collect();
        if !self.constants.is_empty() {
            limits.insert(0, one_of(&self.constants));
        }
        limits.join("; ")
    }

    /// The plural (`strings`), if it says everything.
    fn plural(&self) -> Option<&'static str> {
        match (&self.constants[..], &self.kinds[..], self.null) {
            ([], [only], false) => only.plural,
            _ => None,
        }
    }
}

/// `a, b or c`.
fn alternatives(mut parts: Vec<String>) -> String {
    if parts.len() > LISTED_MAX {
        parts.truncate(LISTED_MAX);
        parts.push("…".to_owned());
    }
    match parts.pop() {
        None => String::new(),
        Some(only) if parts.is_empty() => only,
        Some(last) => format!("{} or {last}", parts.join(", ")),
    }
}

/// The kind of value that a keyword implies without `type`.
fn implied(schema: &Map<String, Value>) -> Option<&'static str> {
    const IMPLIED: [(&str, &str); 12] = [
        ("minimum", "number"),
        ("maximum", "number"),
        ("exclusiveMinimum", "number"),
        ("exclusiveMaximum", "number"),
        ("multipleOf", "number"),
        ("pattern", "string"),
        ("minLength", "string"),
        ("maxLength", "string"),
        ("items", "array"),
        ("minItems", "array"),
        ("maxItems", "array"),
        ("required", "object"),
    ];
    IMPLIED.iter().find(|(keyword, _)| schema.contains_key(*keyword)).map(|(_, kind)| *kind)
}

/// `from 0 to 100`, `above 0 and at most 1`, `from 0, a multiple of 8`. The bounds of 64 bits and of canonical JSON,
/// which hold for every integer, are not shown.
fn number_limits(schema: &Map<String, Value>) -> String {
    #[expect(clippy::cast_precision_loss, reason = "2^53 - 1 is a double")]
    let told = |keyword: &str| {
        let limit = schema.get(keyword)?;
        limit.as_f64().is_none_or(|limit| limit.abs() < INTEGER_MAX as f64).then(|| number(limit))
    };
    let low = told("minimum").map(|low| (low, true)).into_iter();
    let low = low.chain(told("exclusiveMinimum").map(|low| (low, false))).last();
    let high = told("maximum").map(|high| (high, true)).into_iter();
    let high = high.chain(told("exclusiveMaximum").map(|high| (high, false))).last();
    let range = match (low, high) {
        (None, None) => String::new(),
        (Some((low, true)), Some((high, true))) => format!("from {low} to {high}"),
        (low, high) => {
            let low = low.map(|(low, itself)| format!("{} {low}", if itself { "of at least" } else { "above" }));
            let high = high.map(|(high, itself)| format!("{} {high}", if itself { "of at most" } else { "below" }));
            let both = low.is_some();
            let high = high.map(|high| if both { high.trim_start_matches("of ").to_owned() } else { high });
            low.into_iter().chain(high).collect::<Vec<_>>().join(" and ")
        }
    };
    match schema.get("multipleOf") {
        Some(step) if range.is_empty() => format!("that is a multiple of {}", number(step)),
        Some(step) => format!("{range}, a multiple of {}", number(step)),
        None => range,
    }
}

/// A number as people write it: schemas often have `100.0` for `100`.
fn number(value: &Value) -> String {
    let text = shown(value);
    text.strip_suffix(".0").map_or_else(|| text.clone(), str::to_owned)
}

/// `of 2 characters`, `of 1 to 8 characters`, `of at most 8 items`.
fn size(schema: &Map<String, Value>, least: &str, most: &str, noun: &str) -> String {
    let limit = |keyword: &str| schema.get(keyword).map(number);
    let plural = |number: &str| if number == "1" { noun.to_owned() } else { format!("{noun}s") };
    match (limit(least).filter(|least| least != "0"), limit(most)) {
        (None, None) => String::new(),
        (Some(least), None) => format!("of at least {least} {}", plural(&least)),
        (None, Some(most)) => format!("of at most {most} {}", plural(&most)),
        (Some(least), Some(most)) if least == most => format!("of {least} {}", plural(&least)),
        (Some(least), Some(most)) => format!("of {least} to {most} {}", plural(&most)),
    }
}

fn string_limits(schema: &Map<String, Value>) -> String {
    let size = size(schema, "minLength", "maxLength", "character");
    match schema.get("pattern").and_then(Value::as_str) {
        None => size,
        Some(pattern) => {
            let pattern = format!("that matches `{}`", plain(pattern, SHOWN_MAX));
            if size.is_empty() { pattern } else { format!("{size} {pattern}") }
        }
    }
}

/// `a list of strings`, `a list of 2 numbers`, `a list of 2 items, each a number from 0 to 1`.
fn array(schema: &Map<String, Value>) -> Kind {
    if let Some(Value::Array(first)) = schema.get("prefixItems") {
        let closed = schema.get("items") == Some(&Value::Bool(false))
            || schema.get("maxItems").and_then(Value::as_u64).is_some_and(|most| most == first.len() as u64);
        let limits = list(first.iter().map(|item| Words::of(item).phrase()));
        let limits = format!(
            "{} {limits}",
            if closed { format!("of {} items:", first.len()) } else { "that begins with".to_owned() }
        );
        return Kind { phrase: format!("a list {limits}"), name: "list".to_owned(), limits, plural: None };
    }
    let items = schema.get("items").map_or_else(|| Words::of(&Value::Bool(true)), Words::of);
    let plural = items.plural();
    let (noun, each) = match plural {
        Some("values") => ("items", String::new()),
        Some(plural) => (plural, String::new()),
        None => ("items", format!("each {}", items.phrase())),
    };
    // "item" stands for the noun here, since only the plural of the noun is known.
    let size = size(schema, "minItems", "maxItems", "item");
    let of = match size.trim_end_matches('s').strip_suffix(" item") {
        Some(sized) if size.ends_with('s') => format!("{sized} {noun}"),
        Some(sized) => format!("{sized} {}", noun.trim_end_matches('s')),
        None => format!("of {noun}"),
    };
    let name = if each.is_empty() { format!("list of {noun}") } else { "list".to_owned() };
    let separate = if each.is_empty() { "" } else { ", " };
    let limits = if size.is_empty() { each.clone() } else { format!("{size}{separate}{each}") };
    let plain = each.is_empty() && size.is_empty();
    Kind { phrase: format!("a list {of}{separate}{each}"), name, limits, plural: plain.then_some("lists") }
}

/// `an object`, `an object with `x`, `y``, `an object, each value a number`.
fn object(schema: &Map<String, Value>) -> Kind {
    let kind = Kind::new("an ", "object", "objects", String::new());
    let required = schema.get("required").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    match schema.get("additionalProperties") {
        Some(values @ Value::Object(_)) if !schema.contains_key("properties") => {
            let limits = format!("each value {}", Words::of(values).phrase());
            Kind { phrase: format!("an object, {limits}"), limits, plural: None, ..kind }
        }
        _ if (1..=REQUIRED_MAX).contains(&required.len()) => {
            let required = list(required.iter().map(|name| format!("`{}`", key(name.as_str().unwrap_or_default()))));
            Kind { phrase: format!("an object with {required}"), ..kind }
        }
        _ => kind,
    }
}

/// A schema's alternatives, if there are any.
pub(super) fn branches(schema: &Value) -> &[Value] {
    schema.get("anyOf").or(schema.get("oneOf")).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The tags of an object: properties that must have one fixed value, by which the variants of an enum are told apart.
pub(super) fn tags(schema: &Map<String, Value>) -> impl Iterator<Item = (&str, &Value)> {
    let properties = schema.get("properties").and_then(Value::as_object);
    properties.into_iter().flatten().filter_map(|(key, property)| {
        let only = match property.get("enum").and_then(Value::as_array).map(Vec::as_slice) {
            Some([only]) => Some(only),
            _ => None,
        };
        Some((key.as_str(), property.get("const").or(only)?))
    })
}

/// The tag that tells all objects among the alternatives apart, and its values.
pub(super) fn tag(branches: &[Value]) -> Option<(&str, Vec<&Value>)> {
    let objects = branches.iter().filter_map(Value::as_object).filter(|branch| branch.contains_key("properties"));
    let objects: Vec<_> = objects.collect();
    let (tag, _) = tags(objects.first()?).next()?;
    let constants =
        objects.iter().map(|object| tags(object).find(|(key, _)| *key == tag).map(|(_, constant)| constant));
    Some((tag, constants.collect::<Option<Vec<_>>>()?))
}

/// Every key of a schema, the keys of objects after their own.
pub(super) fn table(root: &Value) -> Vec<KeyRow> {
    let mut rows = vec![];
    add_rows(root, "", None, &mut rows);
    rows
}

fn add_rows(schema: &Value, prefix: &str, defaults: Option<&Value>, rows: &mut Vec<KeyRow>) {
    let required = |name: &str| {
        let required = schema.get("required").and_then(Value::as_array);
        required.is_some_and(|required| required.iter().any(|key| key == name))
    };
    for (name, property) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        if rows.len() >= SCHEMA_PROPERTIES_MAX {
            return;
        }
        let key = plain(&format!("{prefix}{}", key(name)), ALLOWED_MAX);
        let default = property.get("default").or(defaults.and_then(|defaults| defaults.get(name)));
        let objects = objects(property);
        let words = Words::of(property);
        // An object that is always present is described by its keys.
        let told_by_keys = objects.is_some_and(|(_, in_list)| !in_list) && words.kinds.len() == 1 && !words.null;
        if !told_by_keys {
            let doc = property.get("description").or(property.get("title")).and_then(Value::as_str).unwrap_or_default();
            let range = match tag(branches(property)) {
                Some((tag, constants)) => format!("its {} {}", self::key(tag), one_of(&constants)),
                None => words.limits(),
            };
            let doc = doc.split_whitespace().collect::<Vec<_>>().join(" ");
            rows.push(KeyRow {
                key: key.clone(),
                type_text: plain(&words.names(), ALLOWED_MAX),
                default: match default {
                    Some(default) => number(default),
                    None if required(name) => "required".to_owned(),
                    None => String::new(),
                },
                range: plain(&range, ALLOWED_MAX),
                doc: plain(&doc, DOC_MAX),
            });
        }
        if let Some((object, in_list)) = objects {
            let prefix = format!("{key}{}.", if in_list { "[]" } else { "" });
            add_rows(object, &prefix, default.filter(|_| !in_list), rows);
        }
    }
}

/// The only schema with properties among a key's alternatives or its list items.
fn objects(schema: &Value) -> Option<(&Value, bool)> {
    if schema.get("properties").is_some() {
        return Some((schema, false));
    }
    if let Some((object, false)) = schema.get("items").and_then(objects) {
        return Some((object, true));
    }
    let mut with_keys = branches(schema).iter().filter_map(objects);
    with_keys.next().filter(|_| with_keys.next().is_none())
}
