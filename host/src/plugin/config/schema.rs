//! Accepts a plugin's schema. The schema is untrusted text: there is an allow-list of keywords, a bound for everything,
//! and no references remain in the result.
//!
//! References are replaced by their targets. The validator then has nothing to resolve, and `check` and `words` see one
//! plain tree.

use std::collections::HashSet;

use jsonschema::error::ValidationErrorKind;
use serde_json::{Map, Value, json};

use super::words::key;
use super::{INTEGER_MAX, KeyRow, NESTING_MAX, SCHEMA_PROPERTIES_MAX, check, input, words};
use crate::text::plain;

/// Bytes of a schema's text, as `describe` may return it.
pub(super) const SCHEMA_BYTES_MAX: usize = 64 * 1024;

/// Nesting of schemas, with references followed. An object in an object in an object counts 3 or, nullable, 6.
pub(super) const SCHEMA_DEPTH_MAX: usize = 16;

/// Bytes of the schema once every reference is replaced by its target. Definitions that use each other twice double the
/// size at each step: 20 such lines would make a million copies.
const EXPANDED_BYTES_MAX: usize = 256 * 1024;

/// Bytes of a compiled pattern. The engine's time is linear in the text, with the pattern's size as the factor: a
/// pattern of this size takes at most 13 µs a byte; `\p{L}` needs most of the bound.
const PATTERN_BYTES_MAX: usize = 64 * 1024;

/// Bytes of the tables that the engine builds while it matches a pattern.
const PATTERN_CACHE_BYTES_MAX: usize = 1024 * 1024;

/// The weight of a pattern in [`ConfigSchema::rules`]: the states it may be in at each byte of a text.
const PATTERN_RULES: usize = 2048;

/// The only dialect that is accepted; the SDK's generator writes it.
const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";

/// The reason why a plugin's config schema is refused. `at` is a JSON pointer into the schema, which follows `$ref`s.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SchemaError {
    /// The text is longer than a schema may be.
    #[error("config schema of {bytes} bytes; at most {SCHEMA_BYTES_MAX} are allowed")]
    TooLong {
        /// The length of the text.
        bytes: usize,
    },
    /// The text is not JSON, or an object in it has a key twice.
    #[error("config schema is not JSON: {why}")]
    NotJson {
        /// The parser's message, with line and column.
        why: String,
    },
    /// Objects and lists, or schemas and references, are nested too deep.
    #[error("config schema at `{at}`: nested more than {max} deep")]
    TooDeep {
        /// Where the limit was reached.
        at: String,
        /// The limit.
        max: usize,
    },
    /// All objects together have too many properties.
    #[error("config schema at `{at}`: more than {SCHEMA_PROPERTIES_MAX} properties in all")]
    TooManyProperties {
        /// The object that exceeded the limit.
        at: String,
    },
    /// The schema is too long once its references are replaced by their targets.
    #[error("config schema at `{at}`: more than {EXPANDED_BYTES_MAX} bytes with its references followed")]
    TooLarge {
        /// Where the limit was reached.
        at: String,
    },
    /// The root does not describe an object that forbids other keys.
    #[error("config schema must have `\"type\": \"object\"` and `\"additionalProperties\": false` at its root")]
    NotClosed,
    /// The schema names a dialect other than 2020-12.
    #[error("config schema is written for {dialect}; only JSON Schema 2020-12 is read")]
    Dialect {
        /// The value of `$schema`.
        dialect: String,
    },
    /// A keyword is not on the list, or not allowed in this place.
    #[error("config schema at `{at}`: keyword `{keyword}` is not allowed here")]
    Keyword {
        /// The schema with the keyword.
        at: String,
        /// The keyword.
        keyword: String,
    },
    /// A `$ref` leads to something other than `#/$defs/NAME`.
    #[error("config schema at `{at}`: reference to {target}; only `#/$defs/NAME` is allowed")]
    Reference {
        /// The schema with the reference.
        at: String,
        /// The target of the reference.
        target: String,
    },
    /// A `$ref` leads to a definition that does not exist.
    #[error("config schema at `{at}`: reference to {target}, which is not defined")]
    Undefined {
        /// The schema with the reference.
        at: String,
        /// The target of the reference.
        target: String,
    },
    /// A `$ref` leads back to itself.
    #[error("config schema at `{at}`: reference to {target} is recursive")]
    Recursive {
        /// The schema with the reference that closes the circle.
        at: String,
        /// The target of the reference.
        target: String,
    },
    /// A pattern needs backtracking, is too large, or is malformed.
    #[error("config schema at `{at}`: pattern {pattern} is not one that matches in linear time and bounded memory")]
    Pattern {
        /// The schema with the pattern.
        at: String,
        /// The pattern.
        pattern: String,
    },
    /// A keyword's value breaks the rules of JSON Schema.
    #[error("config schema at `{at}`: {why}")]
    Invalid {
        /// The place of the keyword.
        at: String,
        /// What is wrong with it.
        why: String,
    },
    /// The schema itself refuses a default of its own.
    #[error("config schema has a default that it refuses: {why}")]
    Default {
        /// The key, what it is, and what is allowed.
        why: String,
    },
}

/// The kind of value behind a keyword, which decides how the keyword is treated.
#[derive(Clone, Copy, PartialEq)]
enum Holds {
    /// One schema.
    Schema,
    /// A list of schemas.
    List,
    /// An object of schemas; their names are properties.
    Properties,
    /// An object of schemas; their names are patterns for properties.
    Patterns,
    /// An object of schemas.
    Named,
    /// A value, kept.
    Value,
    /// A value for people, kept: it never refuses a config.
    Note,
    /// Ignored.
    Nothing,
}

/// Every keyword that is read, in the order of the JSON Schema vocabularies. A keyword that is missing here (`$id`,
/// `$anchor`, `$dynamicRef`, `unevaluatedProperties`, a misspelt `minumum`) is refused, except for names that begin
/// with `x-`. `$schema`, `$defs` and `$ref` are read separately.
const KEYWORDS: &[(&str, Holds)] = &[
    ("allOf", Holds::List),
    ("anyOf", Holds::List),
    ("oneOf", Holds::List),
    ("not", Holds::Schema),
    ("if", Holds::Schema),
    ("then", Holds::Schema),
    ("else", Holds::Schema),
    ("dependentSchemas", Holds::Named),
    ("prefixItems", Holds::List),
    ("items", Holds::Schema),
    ("contains", Holds::Schema),
    ("properties", Holds::Properties),
    ("patternProperties", Holds::Patterns),
    ("additionalProperties", Holds::Schema),
    ("propertyNames", Holds::Schema),
    ("type", Holds::Value),
    ("enum", Holds::Value),
    ("const", Holds::Value),
    ("multipleOf", Holds::Value),
    ("maximum", Holds::Value),
    ("exclusiveMaximum", Holds::Value),
    ("minimum", Holds::Value),
    ("exclusiveMinimum", Holds::Value),
    ("maxLength", Holds::Value),
    ("minLength", Holds::Value),
    ("pattern", Holds::Value),
    ("maxItems", Holds::Value),
    ("minItems", Holds::Value),
    ("uniqueItems", Holds::Value),
    ("maxContains", Holds::Value),
    ("minContains", Holds::Value),
    ("maxProperties", Holds::Value),
    ("minProperties", Holds::Value),
    ("required", Holds::Value),
    ("dependentRequired", Holds::Value),
    ("title", Holds::Note),
    ("description", Holds::Note),
    ("default", Holds::Note),
    ("format", Holds::Nothing),
    ("contentEncoding", Holds::Nothing),
    ("contentMediaType", Holds::Nothing),
    ("deprecated", Holds::Nothing),
    ("readOnly", Holds::Nothing),
    ("writeOnly", Holds::Nothing),
    ("examples", Holds::Nothing),
    ("$comment", Holds::Nothing),
];

/// An accepted plugin schema: bounded, without references, ready to complete configs.
#[derive(Debug)]
pub struct ConfigSchema {
    /// The schema with every reference replaced by its target.
    pub(super) root: Value,
    pub(super) validator: jsonschema::Validator,
    /// The most that there is to check for each byte of a config: the values in the schema that can refuse one, with
    /// each pattern counted [`PATTERN_RULES`] times.
    pub(super) rules: usize,
}

impl ConfigSchema {
    /// Accepts a plugin's schema, or says why not. The time and memory for this are bounded for any text.
    ///
    /// A schema has at most 64 KiB, 16 schemas inside each other and 256 properties in all, references to `#/$defs/`
    /// that do not lead back to themselves, and patterns that match in linear time. Its root is an object with
    /// `additionalProperties: false`, and its defaults are valid.
    ///
    /// # Errors
    ///
    /// The first rule that the text breaks. The plugin is at fault, not the user.
    pub fn parse(text: &str) -> Result<ConfigSchema, SchemaError> {
        if text.len() > SCHEMA_BYTES_MAX {
            return Err(SchemaError::TooLong { bytes: text.len() });
        }
        if nesting(text) > NESTING_MAX {
            return Err(SchemaError::TooDeep { at: "#".to_owned(), max: NESTING_MAX });
        }
        let value = input::json(text).map_err(|why| SchemaError::NotJson { why: plain(&why, 200) })?;
        let (root, rules) = expand(&value)?;
        if root.get("type") != Some(&json!("object")) || root.get("additionalProperties") != Some(&json!(false)) {
            return Err(SchemaError::NotClosed);
        }
        let validator = jsonschema::options()
            .with_draft(jsonschema::Draft::Draft202012)
            .should_validate_formats(false)
            .with_pattern_options(
                jsonschema::PatternOptions::regex()
                    .size_limit(PATTERN_BYTES_MAX)
                    .dfa_size_limit(PATTERN_CACHE_BYTES_MAX),
            )
            .build(&root)
            .map_err(|error| refused(&error))?;
        let schema = ConfigSchema { root, validator, rules };
        check::defaults(&schema).map_err(|why| SchemaError::Default { why })?;
        Ok(schema)
    }

    /// Lists every key and its allowed values, in the schema's order: at most 256 rows of bounded, printable text.
    pub fn table(&self) -> Vec<KeyRow> {
        words::table(&self.root)
    }
}

/// How deep objects and lists nest in a JSON text. For other text the number means nothing.
fn nesting(text: &str) -> usize {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0_usize, 0, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => depth += 1,
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

/// The root with every reference replaced by its target, and its number of rules. Unused definitions obey the same
/// rules.
fn expand(text: &Value) -> Result<(Value, usize), SchemaError> {
    let Value::Object(members) = text else { return Err(SchemaError::NotClosed) };
    let mut members = members.clone();
    if let Some(dialect) = members.shift_remove("$schema")
        && dialect.as_str().map(|uri| uri.trim_end_matches('#')) != Some(DIALECT)
    {
        return Err(SchemaError::Dialect { dialect: plain(&dialect.to_string(), 80) });
    }
    let definitions = match members.shift_remove("$defs") {
        None => Map::new(),
        Some(Value::Object(definitions)) => definitions,
        Some(_) => return Err(invalid("#/$defs", "expected an object")),
    };
    let mut expansion = Expansion {
        definitions: &definitions,
        within: vec![],
        used: HashSet::new(),
        bytes: 0,
        properties: 0,
        rules: 0,
    };
    let root = expansion.schema(&Value::Object(members), "#", 1)?;
    let rules = expansion.rules;
    for (name, definition) in &definitions {
        if !expansion.used.contains(name.as_str()) {
            expansion.within.push(name);
            expansion.schema(definition, &below("#/$defs", name), 1)?;
            expansion.within.pop();
        }
    }
    Ok((root, rules))
}

struct Expansion<'t> {
    definitions: &'t Map<String, Value>,
    /// The definitions that are being expanded, outermost first.
    within: Vec<&'t str>,
    used: HashSet<&'t str>,
    bytes: usize,
    properties: usize,
    rules: usize,
}

impl<'t> Expansion<'t> {
    fn schema(&mut self, text: &Value, at: &str, depth: usize) -> Result<Value, SchemaError> {
        if depth > SCHEMA_DEPTH_MAX {
            return Err(SchemaError::TooDeep { at: plain(at, 200), max: SCHEMA_DEPTH_MAX });
        }
        self.spend(2, at)?;
        self.rules += 1;
        let members = match text {
            Value::Bool(_) => return Ok(text.clone()),
            Value::Object(members) => members,
            _ => return Err(invalid(at, "expected a schema: an object, `true` or `false`")),
        };
        let mut expanded = Map::new();
        for (keyword, value) in members {
            let at_value = below(at, keyword);
            self.spend(keyword.len() + 4, at)?;
            let holds = KEYWORDS.iter().find(|(name, _)| name == keyword).map(|&(_, holds)| holds);
            self.rules += match (holds, value) {
                (Some(Holds::Value), _) if keyword == "pattern" => PATTERN_RULES,
                (Some(Holds::Patterns), Value::Object(patterns)) => PATTERN_RULES.saturating_mul(patterns.len()),
                (Some(Holds::Value), _) => count(value),
                _ => 1,
            };
            let value = match holds {
                None if keyword == "$ref" || keyword.starts_with("x-") => continue,
                None => return Err(SchemaError::Keyword { at: plain(at, 200), keyword: key(keyword) }),
                Some(Holds::Nothing) => continue,
                Some(Holds::Value | Holds::Note) => {
                    self.spend(value.to_string().len(), at)?;
                    value.clone()
                }
                Some(Holds::Schema) => self.schema(value, &at_value, depth + 1)?,
                Some(Holds::List) => self.list(value, &at_value, depth + 1)?,
                Some(holds @ (Holds::Properties | Holds::Patterns | Holds::Named)) => {
                    self.named(value, &at_value, depth + 1, holds != Holds::Named)?
                }
            };
            expanded.insert(keyword.clone(), value);
        }
        bound_integers(&mut expanded, members.get("format"));
        if let Some(target) = members.get("$ref") {
            let target = self.target(target, at, depth)?;
            expanded = and_also(expanded, target);
        }
        // Older generators write a reference with a description as `allOf` with one member.
        if let Some(Value::Array(all)) = expanded.get("allOf")
            && all.len() == 1
            && let Some(Value::Array(mut all)) = expanded.shift_remove("allOf")
            && let Some(only) = all.pop()
        {
            expanded = and_also(expanded, only);
        }
        Ok(Value::Object(expanded))
    }

    fn list(&mut self, text: &Value, at: &str, depth: usize) -> Result<Value, SchemaError> {
        let Value::Array(items) = text else { return Err(invalid(at, "expected a list of schemas")) };
        let items = items.iter().enumerate().map(|(index, item)| self.schema(item, &format!("{at}/{index}"), depth));
        items.collect()
    }

    fn named(&mut self, text: &Value, at: &str, depth: usize, properties: bool) -> Result<Value, SchemaError> {
        let Value::Object(members) = text else { return Err(invalid(at, "expected an object of schemas")) };
        if properties {
            self.properties = self.properties.saturating_add(members.len());
            if self.properties > SCHEMA_PROPERTIES_MAX {
                return Err(SchemaError::TooManyProperties { at: plain(at, 200) });
            }
        }
        let mut expanded = Map::new();
        for (name, member) in members {
            self.spend(name.len() + 4, at)?;
            expanded.insert(name.clone(), self.schema(member, &below(at, name), depth)?);
        }
        Ok(Value::Object(expanded))
    }

    /// The target of a `$ref`, expanded. The reference itself adds no depth: its target does.
    fn target(&mut self, reference: &Value, at: &str, depth: usize) -> Result<Value, SchemaError> {
        let shown = || plain(&reference.to_string(), 80);
        let name = match reference.as_str() {
            Some("#" | "#/") => return Err(SchemaError::Recursive { at: plain(at, 200), target: shown() }),
            Some(uri) => uri.strip_prefix("#/$defs/").and_then(decode_name),
            None => None,
        };
        let Some(name) = name else {
            return Err(SchemaError::Reference { at: plain(at, 200), target: shown() });
        };
        let Some((name, definition)) = self.definitions.get_key_value(&name) else {
            return Err(SchemaError::Undefined { at: plain(at, 200), target: shown() });
        };
        if self.within.contains(&name.as_str()) {
            return Err(SchemaError::Recursive { at: plain(at, 200), target: shown() });
        }
        // Definitions that only refer to the next definition add no depth, but each takes a frame of the stack.
        if self.within.len() >= SCHEMA_DEPTH_MAX {
            return Err(SchemaError::TooDeep { at: plain(at, 200), max: SCHEMA_DEPTH_MAX });
        }
        self.used.insert(name);
        self.within.push(name);
        let expanded = self.schema(definition, &below(at, "$ref"), depth);
        self.within.pop();
        expanded
    }

    fn spend(&mut self, bytes: usize, at: &str) -> Result<(), SchemaError> {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes > EXPANDED_BYTES_MAX {
            return Err(SchemaError::TooLarge { at: plain(at, 200) });
        }
        Ok(())
    }
}

/// Merges two schemas into one that requires both. If `own` has only notes, they replace those of `other`.
fn and_also(mut own: Map<String, Value>, other: Value) -> Map<String, Value> {
    let notes_only =
        own.keys().all(|keyword| KEYWORDS.iter().any(|&(name, holds)| name == keyword && holds == Holds::Note));
    match other {
        Value::Object(mut members) if notes_only => {
            members.extend(own);
            members
        }
        other => {
            if let Value::Array(all) = own.entry("allOf").or_insert_with(|| json!([])) {
                all.push(other);
            }
            own
        }
    }
}

/// Writes the bounds of an integer's format, and of canonical JSON, as `minimum` and `maximum`, so that the error for
/// an integer beyond them comes from here rather than from the guest.
fn bound_integers(members: &mut Map<String, Value>, format: Option<&Value>) {
    let named = |kind: &str| match members.get("type") {
        Some(Value::String(name)) => name == kind,
        Some(Value::Array(names)) => names.iter().any(|name| name == kind),
        _ => false,
    };
    if !named("integer") || named("number") {
        return;
    }
    let (low, high) = match format.and_then(Value::as_str) {
        Some("int8") => (i64::from(i8::MIN), i64::from(i8::MAX)),
        Some("int16") => (i64::from(i16::MIN), i64::from(i16::MAX)),
        Some("int32") => (i64::from(i32::MIN), i64::from(i32::MAX)),
        Some("uint8") => (0, i64::from(u8::MAX)),
        Some("uint16") => (0, i64::from(u16::MAX)),
        Some("uint32") => (0, i64::from(u32::MAX)),
        Some("uint" | "uint64" | "uint128") => (0, INTEGER_MAX),
        _ => (-INTEGER_MAX, INTEGER_MAX),
    };
    let is_met = |keyword: &str, met: &dyn Fn(f64) -> bool| {
        members.get(keyword).is_some_and(|limit| limit.as_f64().is_none_or(met))
    };
    #[expect(clippy::cast_precision_loss, reason = "both bounds are within 2^53")]
    let (low_float, high_float) = (low as f64, high as f64);
    let low_met = ["minimum", "exclusiveMinimum"].iter().any(|keyword| is_met(keyword, &|limit| limit >= low_float));
    let high_met = ["maximum", "exclusiveMaximum"].iter().any(|keyword| is_met(keyword, &|limit| limit <= high_float));
    if !low_met {
        members.insert("minimum".to_owned(), json!(low));
    }
    if !high_met {
        members.insert("maximum".to_owned(), json!(high));
    }
}

/// The number of values that a value is made of.
pub(super) fn count(value: &Value) -> usize {
    match value {
        Value::Array(items) => items.iter().map(count).fold(1, usize::saturating_add),
        Value::Object(members) => members.values().map(count).fold(1, usize::saturating_add),
        _ => 1,
    }
}

/// Decodes the name behind `#/$defs/`: percent-encoding first (RFC 3986), then the pointer's own (RFC 6901).
fn decode_name(encoded: &str) -> Option<String> {
    let mut bytes = vec![];
    let mut rest = encoded.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'/' => return None,
            b'%' => {
                let high = char::from(rest.next()?).to_digit(16)?;
                let low = char::from(rest.next()?).to_digit(16)?;
                bytes.push(u8::try_from(high * 16 + low).ok()?);
            }
            byte => bytes.push(byte),
        }
    }
    Some(String::from_utf8(bytes).ok()?.replace("~1", "/").replace("~0", "~"))
}

fn below(at: &str, name: &str) -> String {
    format!("{at}/{}", name.replace('~', "~0").replace('/', "~1"))
}

fn invalid(at: &str, why: &str) -> SchemaError {
    SchemaError::Invalid { at: plain(at, 200), why: why.to_owned() }
}

/// Turns an error of the validator's constructor into the error for its reader.
fn refused(error: &jsonschema::ValidationError<'_>) -> SchemaError {
    let at = plain(&format!("#{}", error.instance_path()), 200);
    match error.kind() {
        ValidationErrorKind::Format { format } if format == "regex" => {
            SchemaError::Pattern { at, pattern: plain(&error.instance().to_string(), 120) }
        }
        _ => SchemaError::Invalid { at, why: plain(&error.to_string(), 200) },
    }
}
