//! Completes a config: fills in defaults, validates, and reports mistakes in the user's own words.
//!
//! The schema may be hostile, so work is bounded before it is done. The validator decides; the words are written here.

use std::collections::HashSet;

use jsonschema::ValidationError;
use jsonschema::error::ValidationErrorKind;
use serde_json::{Map, Value};

use super::schema::{ConfigSchema, count};
use super::{CONFIG_BYTES_MAX, INTEGER_MAX, NESTING_MAX, Path, words};
use crate::error::UsageError;
use crate::text::{argument, nearest};

/// Bytes of a config times rules of the schema. The worst case found is a pattern in all its states at once, at 7 ns
/// each: four seconds. An ordinary config with an ordinary schema has a hundred thousand.
const CHECKS_MAX: usize = 1 << 29;

/// Alternatives that are weighed to fill in defaults, times rules of the schema: a second at worst.
const CHOICES_MAX: usize = 1 << 26;

/// Values of a config times rules of the schema, up to which all mistakes are looked for. The validator lists them all
/// at once, with a few hundred bytes each.
const MISTAKES_MAX: usize = 1 << 20;

/// Mistakes that are reported. A user who made more will run the command again.
const TOLD_MAX: usize = 5;

/// A config with every default filled in, valid against its plugin's schema.
#[derive(Debug, Clone, PartialEq)]
pub struct CompleteConfig {
    /// The config, its keys in the schema's order.
    pub value: Value,
    /// The same config as RFC 8785 JSON, at most 60 KiB: `create` gets this text, and digests cover it.
    pub canonical: String,
}

impl ConfigSchema {
    /// Fills in the defaults and validates. The canonical text does not depend on how or in which order keys were
    /// given.
    ///
    /// A default applies to an absent key of an object that is present or was itself filled in. A number without a
    /// fraction becomes an integer, as canonical JSON writes it. `plugin` is the name that hints show.
    ///
    /// # Errors
    ///
    /// The first mistake, in the order in which the config was given. Further mistakes are hints, up to five in all.
    /// Each names the path, the value and what is allowed.
    pub fn complete(&self, config: Value, plugin: &str) -> Result<CompleteConfig, UsageError> {
        let see = |error: UsageError| {
            error.hint(format!("`rollcage inspect {}` lists every key with its range", argument(plugin)))
        };
        let given = config.clone();
        let (value, canonical) = self.fill(config).map_err(|why| see(UsageError::new(why)))?;
        if canonical.len().saturating_mul(self.rules) > CHECKS_MAX {
            return Err(UsageError::new(format!(
                "config: {} bytes are too many to check against the {} rules of this plugin's schema",
                canonical.len(),
                self.rules
            )));
        }
        if self.validator.is_valid(&value) {
            return Ok(CompleteConfig { value, canonical });
        }
        let Mistakes { told, quoting } = self.mistakes(&given, &value);
        let mut told = told.into_iter();
        let mut error = UsageError::new(told.next().unwrap_or_else(|| {
            // There are too many mistakes to list, or the validator contradicts itself.
            "config: does not fit the plugin's schema".to_owned()
        }));
        for more in told {
            error = error.hint(format!("also {more}"));
        }
        if let Some(quoting) = quoting {
            error = error.hint(quoting);
        }
        Err(see(error))
    }

    /// Fills in defaults and makes integers plain. Returns the config and its canonical text.
    fn fill(&self, mut config: Value) -> Result<(Value, String), String> {
        if !config.is_object() {
            return Err(format!("config: expected an object, got {}", words::shown(&config)));
        }
        normalise(&mut config, Path::Root)?;
        let mut room = Room { bytes: CONFIG_BYTES_MAX, choices: CHOICES_MAX / self.rules.max(1) };
        fill(&self.root, &mut config, &mut room)?;
        normalise(&mut config, Path::Root)?;
        let canonical = serde_json_canonicalizer::to_string(&config).map_err(|error| format!("config: {error}"))?;
        if canonical.len() > CONFIG_BYTES_MAX {
            return Err(format!(
                "config: {} bytes as canonical JSON; at most {CONFIG_BYTES_MAX} are allowed",
                canonical.len()
            ));
        }
        Ok((config, canonical))
    }

    /// The mistakes in words: one line for each path, in the order of `given`.
    fn mistakes(&self, given: &Value, value: &Value) -> Mistakes {
        if count(value).saturating_mul(self.rules) > MISTAKES_MAX {
            return Mistakes::default();
        }
        let mut mistakes = vec![];
        for error in self.validator.iter_errors(value) {
            self.sort_out(value, &error, &mut mistakes);
        }
        let mut mistakes: Vec<_> = mistakes.into_iter().map(|mistake| (mistake.order(given), mistake)).collect();
        mistakes.sort_by(|(one, _), (other, _)| one.cmp(other));
        let mut paths = HashSet::new();
        mistakes.retain(|(_, mistake)| paths.insert(mistake.at.clone()));
        let more = mistakes.len().saturating_sub(TOLD_MAX);
        let mut told: Vec<_> = mistakes.iter().take(TOLD_MAX).map(|(_, mistake)| self.tell(mistake)).collect();
        if more > 0 {
            told.push(format!("{more} more"));
        }
        let quoting = mistakes.iter().take(TOLD_MAX).find_map(|(_, mistake)| self.quoting(mistake, given, value));
        Mistakes { told, quoting }
    }

    /// How to quote a text that was taken for another type (`team=1` is a number), if the text would be valid.
    fn quoting(&self, mistake: &Mistake, given: &Value, value: &Value) -> Option<String> {
        let What::Wrong { .. } = mistake.what else { return None };
        let got = mistake.at.iter().try_fold(given, |value, step| match step {
            Step::Key(key) => value.get(key),
            Step::Index(index) => value.get(index),
        })?;
        if !(got.is_number() || got.is_boolean()) {
            return None;
        }
        let text = got.to_string();
        let schema = self.root.pointer(&mistake.schema)?;
        let takes_texts = match (schema.get("type"), schema.get("enum")) {
            (_, Some(constants)) => constants.as_array()?.contains(&Value::from(text.as_str())),
            (Some(Value::String(kind)), _) => kind == "string",
            (Some(Value::Array(kinds)), _) => kinds.iter().any(|kind| kind == "string"),
            _ => false,
        };
        if !takes_texts {
            return None;
        }
        // Another rule may refuse the text nonetheless: a pattern, a length.
        let mut quoted = value.clone();
        let place = mistake.at.iter().try_fold(&mut quoted, |value, step| match step {
            Step::Key(key) => value.get_mut(key),
            Step::Index(index) => value.get_mut(index),
        })?;
        *place = Value::from(text.as_str());
        if self.validator.iter_errors(&quoted).any(|error| steps(&quoted, error.instance_path().as_str()) == mistake.at)
        {
            return None;
        }
        let keys = mistake.at.iter().all(|step| matches!(step, Step::Key(_)));
        let typed = match keys {
            true => format!(": `--config {}`", argument(&format!("{}=\"{text}\"", path(&mistake.at, &Path::Root)))),
            false => String::new(),
        };
        Some(format!("`\"{text}\"`, in quotes, is a text{typed}"))
    }

    /// Splits an error of the validator: a mistake for each key and, among alternatives, those of the intended one if
    /// that is clear.
    fn sort_out(&self, value: &Value, error: &ValidationError<'_>, mistakes: &mut Vec<Mistake>) {
        let at = steps(value, error.instance_path().as_str());
        let schema = error.schema_path().as_str().rsplit_once('/').map_or("", |(parent, _)| parent).to_owned();
        let at_key = |key: &str| at.iter().cloned().chain([Step::Key(key.to_owned())]).collect();
        match error.kind() {
            ValidationErrorKind::AdditionalProperties { unexpected } => {
                for key in unexpected {
                    mistakes.push(Mistake { at: at_key(key), schema: schema.clone(), what: What::Unknown });
                }
            }
            // For an object that may have no keys at all, the validator names one key without saying which.
            ValidationErrorKind::FalseSchema if error.schema_path().as_str().ends_with("/additionalProperties") => {
                let object = value.pointer(error.instance_path().as_str()).and_then(Value::as_object);
                for key in object.into_iter().flat_map(Map::keys) {
                    mistakes.push(Mistake { at: at_key(key), schema: schema.clone(), what: What::Unknown });
                }
            }
            ValidationErrorKind::FalseSchema => mistakes.push(Mistake { at, schema, what: What::Forbidden }),
            ValidationErrorKind::PropertyNames { error: inner } => {
                let allowed = self.root.pointer(&schema).map_or_else(String::new, words::allowed);
                let key = inner.instance().as_str().unwrap_or_default();
                mistakes.push(Mistake { at: at_key(key), schema, what: What::Misnamed { allowed } });
            }
            ValidationErrorKind::Required { property } => {
                let key = property.as_str().unwrap_or_default();
                let property = self.root.pointer(&schema).and_then(|schema| schema.get("properties")?.get(key));
                let what = What::Missing { allowed: property.map(words::allowed) };
                mistakes.push(Mistake { at: at_key(key), schema, what });
            }
            ValidationErrorKind::AnyOf { context } | ValidationErrorKind::OneOfNotValid { context } => {
                let branches = self.root.pointer(error.schema_path().as_str()).and_then(Value::as_array);
                let branches = branches.map_or(&[][..], Vec::as_slice);
                let meant = meant(branches, error.instance()).and_then(|index| context.get(index));
                if let Some(errors) = meant.filter(|errors| !errors.is_empty()) {
                    errors.iter().for_each(|error| self.sort_out(value, error, mistakes));
                } else if let (Some((tag, constants)), Value::Object(object)) =
                    (words::tag(branches), error.instance().as_ref())
                    && object.get(tag).is_none_or(|given| !constants.contains(&given))
                {
                    let what = match object.get(tag) {
                        Some(given) => {
                            What::Wrong { allowed: Some(words::one_of(&constants)), got: words::shown(given) }
                        }
                        None => What::Missing { allowed: Some(words::one_of(&constants)) },
                    };
                    mistakes.push(Mistake { at: at_key(tag), schema, what });
                } else {
                    let what = What::Wrong { allowed: None, got: words::shown(error.instance()) };
                    mistakes.push(Mistake { at, schema, what });
                }
            }
            _ => {
                let what = self.particulars(&schema, error);
                mistakes.push(Mistake { at, schema, what });
            }
        }
    }

    /// The reason of an error, where the schema's words leave it out.
    fn particulars(&self, schema: &str, error: &ValidationError<'_>) -> What {
        let got = words::shown(error.instance());
        let besides = match error.kind() {
            ValidationErrorKind::MinItems { .. }
            | ValidationErrorKind::MaxItems { .. }
            | ValidationErrorKind::AdditionalItems { .. } => {
                let items = error.instance().as_array().map_or(0, Vec::len);
                return What::Wrong { allowed: None, got: format!("a list of {items}") };
            }
            ValidationErrorKind::Minimum { limit } | ValidationErrorKind::Maximum { limit }
                if limit.as_f64().is_some_and(|limit| limit.abs() >= INTEGER_MAX_FLOAT) =>
            {
                format!("within ±{INTEGER_MAX}")
            }
            ValidationErrorKind::MinProperties { limit } => format!("of at least {}", words::counted(*limit, "key")),
            ValidationErrorKind::MaxProperties { limit } => format!("of at most {}", words::counted(*limit, "key")),
            ValidationErrorKind::UniqueItems => "without repeats".to_owned(),
            ValidationErrorKind::Contains => {
                let item = self.root.pointer(&format!("{schema}/contains")).map_or_else(String::new, words::allowed);
                format!("with an item that is {item}")
            }
            ValidationErrorKind::OneOfMultipleValid { .. } => "in one of these senses, not in several".to_owned(),
            ValidationErrorKind::Not { schema } => format!("that is not {}", words::allowed(schema)),
            _ => return What::Wrong { allowed: None, got },
        };
        let allowed = self.root.pointer(schema).map_or_else(|| "a value".to_owned(), words::allowed);
        What::Wrong { allowed: Some(format!("{allowed} {besides}")), got }
    }

    fn tell(&self, mistake: &Mistake) -> String {
        let schema = self.root.pointer(&mistake.schema).unwrap_or(&Value::Null);
        let subject = subject(&mistake.at);
        let (key, object) = match mistake.at.split_last() {
            Some((Step::Key(key), object)) => (key.as_str(), object),
            _ => ("", &mistake.at[..]),
        };
        match &mistake.what {
            What::Unknown => {
                let known = schema.get("properties").and_then(Value::as_object);
                let known: Vec<&str> = known.into_iter().flat_map(Map::keys).map(String::as_str).collect();
                let full = |key: &str| {
                    let mut at = object.to_vec();
                    at.push(Step::Key(key.to_owned()));
                    format!("`{}`", path(&at, &Path::Root))
                };
                let rest = match (nearest(key, &known), &known[..]) {
                    (Some(near), _) => format!("did you mean {}?", full(near)),
                    (None, []) if object.is_empty() => "this plugin takes no config".to_owned(),
                    (None, []) => "no keys are known here".to_owned(),
                    (None, [only]) => format!("the only known key is {}", full(only)),
                    (None, known) => format!("known keys are {}", words::list(known.iter().map(|key| full(key)))),
                };
                format!("{subject}: unknown key; {rest}")
            }
            What::Misnamed { allowed } => format!("{subject}: key not allowed; expected {allowed}"),
            What::Forbidden => format!("{subject}: not allowed here"),
            What::Missing { allowed: Some(allowed) } => format!("{subject}: missing; expected {allowed}"),
            What::Missing { allowed: None } => format!("{subject}: missing"),
            What::Wrong { allowed: Some(allowed), got } => format!("{subject}: expected {allowed}, got {got}"),
            What::Wrong { allowed: None, got } => format!("{subject}: expected {}, got {got}", words::allowed(schema)),
        }
    }
}

/// Reports the default that the schema itself refuses. When nothing is given, all values that are present are defaults.
/// Missing values are not the defaults' mistake.
pub(super) fn defaults(schema: &ConfigSchema) -> Result<(), String> {
    let (value, canonical) = schema.fill(Value::Object(Map::new()))?;
    if canonical.len().saturating_mul(schema.rules) > CHECKS_MAX {
        return Err("config: too large to check".to_owned());
    }
    if schema.validator.is_valid(&value) {
        return Ok(());
    }
    if count(&value).saturating_mul(schema.rules) > MISTAKES_MAX {
        return Err("config: too large to say which".to_owned());
    }
    let mut mistakes = vec![];
    for error in schema.validator.iter_errors(&value) {
        if !error.instance_path().is_empty() {
            schema.sort_out(&value, &error, &mut mistakes);
        }
    }
    match mistakes.iter().find(|mistake| !matches!(mistake.what, What::Missing { .. })) {
        Some(mistake) => Err(schema.tell(mistake)),
        None => Ok(()),
    }
}

/// All mistakes of a config, in words.
#[derive(Default)]
struct Mistakes {
    /// A line for each mistake.
    told: Vec<String>,
    /// How to quote the first text that was taken for another type.
    quoting: Option<String>,
}

/// A mistake at a place of the config, found by the schema at a JSON pointer.
struct Mistake {
    at: Vec<Step>,
    schema: String,
    what: What,
}

#[derive(Clone, PartialEq, Eq, Hash)]
enum Step {
    Key(String),
    Index(usize),
}

enum What {
    /// The last key of the place is not in the schema.
    Unknown,
    /// The schema does not allow the name of the place's last key.
    Misnamed { allowed: String },
    /// No value may be here.
    Forbidden,
    /// The last key of the place is not in the config.
    Missing { allowed: Option<String> },
    /// The value is wrong; `allowed` says more than the schema's own words would.
    Wrong { allowed: Option<String>, got: String },
}

impl Mistake {
    /// The place in the order of `given`: the position of each key in its object; a key that was not given comes last.
    fn order(&self, given: &Value) -> Vec<usize> {
        let mut value = Some(given);
        let order = self.at.iter().map(|step| {
            let (place, next) = match (value, step) {
                (Some(Value::Array(items)), Step::Index(index)) => (Some(*index), items.get(*index)),
                (Some(Value::Object(members)), Step::Key(key)) => {
                    (members.keys().position(|name| name == key), members.get(key))
                }
                _ => (None, None),
            };
            value = next;
            place.unwrap_or(usize::MAX)
        });
        order.collect()
    }
}

/// A JSON pointer into `value` as steps. The value decides whether `3` is a key or an index.
fn steps(value: &Value, pointer: &str) -> Vec<Step> {
    let mut value = Some(value);
    let steps = pointer.split('/').skip(1).map(|token| {
        let token = token.replace("~1", "/").replace("~0", "~");
        match (value, token.parse::<usize>()) {
            (Some(Value::Array(items)), Ok(index)) => {
                value = items.get(index);
                Step::Index(index)
            }
            (parent, _) => {
                value = parent.and_then(|parent| parent.get(&token));
                Step::Key(token)
            }
        }
    });
    steps.collect()
}

fn path(steps: &[Step], below: &Path<'_>) -> String {
    match steps {
        [] => below.to_string(),
        [Step::Key(key), rest @ ..] => path(rest, &Path::Key(below, key)),
        [Step::Index(index), rest @ ..] => path(rest, &Path::Index(below, *index)),
    }
}

fn subject(steps: &[Step]) -> String {
    if steps.is_empty() { "config".to_owned() } else { format!("config `{}`", path(steps, &Path::Root)) }
}

/// Turns every number into the form of canonical JSON, and refuses numbers that canonical JSON cannot hold.
///
/// A float without a fraction becomes an integer, up to 2^53. An integer beyond that has no exact canonical form.
fn normalise(value: &mut Value, path: Path<'_>) -> Result<(), String> {
    if path.depth() >= NESTING_MAX && (value.is_object() || value.is_array()) {
        return Err(format!("{}: nested more than {NESTING_MAX} deep", path.subject()));
    }
    match value {
        Value::Object(members) => {
            for (key, member) in members {
                normalise(member, Path::Key(&path, key))?;
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                normalise(item, Path::Index(&path, index))?;
            }
        }
        Value::Number(number) => {
            if let Some(integer) = number.as_i64().map(i128::from).or(number.as_u64().map(i128::from)) {
                if integer.unsigned_abs() > INTEGER_MAX.unsigned_abs().into() {
                    return Err(format!(
                        "{}: expected an integer within ±{INTEGER_MAX}, got {integer}",
                        path.subject()
                    ));
                }
            } else if let Some(float) = number.as_f64()
                && float.fract() == 0.0
                && float.abs() <= INTEGER_MAX_FLOAT
            {
                #[expect(clippy::cast_possible_truncation, reason = "a whole number within 2^53")]
                let integer = float as i64;
                *value = Value::from(integer);
            }
        }
        _ => {}
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "2^53 - 1 is a double")]
const INTEGER_MAX_FLOAT: f64 = INTEGER_MAX as f64;

/// The cost that filling in may still have.
struct Room {
    /// Bytes of defaults: a list of empty objects with a long default each is short only in the schema.
    bytes: usize,
    /// How often one of several alternatives may still be chosen. Each choice may look at the whole schema.
    choices: usize,
}

/// Fills in the defaults of absent keys, and puts keys into the schema's order, unknown keys last.
fn fill(schema: &Value, value: &mut Value, room: &mut Room) -> Result<(), String> {
    let Value::Object(schema) = schema else { return Ok(()) };
    for all in members(schema, "allOf") {
        fill(all, value, room)?;
    }
    for keyword in ["anyOf", "oneOf"] {
        let Some(branches) = schema.get(keyword).and_then(Value::as_array) else { continue };
        room.choices = room.choices.checked_sub(1).ok_or("config: too long for so large a schema")?;
        if let Some(branch) = meant(branches, value).and_then(|index| branches.get(index)) {
            fill(branch, value, room)?;
        }
    }
    match value {
        Value::Object(given) => {
            let properties = schema.get("properties").and_then(Value::as_object);
            let mut filled = Map::new();
            for (key, property) in properties.into_iter().flatten() {
                let mut member = match (given.shift_remove(key), property.get("default")) {
                    (Some(member), _) => member,
                    (None, Some(default)) => {
                        let bytes = key.len() + default.to_string().len();
                        room.bytes = room
                            .bytes
                            .checked_sub(bytes)
                            .ok_or_else(|| format!("config: more than {CONFIG_BYTES_MAX} bytes with its defaults"))?;
                        default.clone()
                    }
                    (None, None) => continue,
                };
                fill(property, &mut member, room)?;
                filled.insert(key.clone(), member);
            }
            for (key, mut member) in std::mem::take(given) {
                if let Some(other) = schema.get("additionalProperties") {
                    fill(other, &mut member, room)?;
                }
                filled.insert(key, member);
            }
            *given = filled;
        }
        Value::Array(given) => {
            let first = schema.get("prefixItems").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
            for (index, item) in given.iter_mut().enumerate() {
                if let Some(schema) = first.get(index).or(schema.get("items")) {
                    fill(schema, item, room)?;
                }
            }
        }
        _ => {}
    }
    Ok(())
}

fn members<'s>(schema: &'s Map<String, Value>, keyword: &str) -> impl Iterator<Item = &'s Value> {
    schema.get(keyword).and_then(Value::as_array).into_iter().flatten()
}

/// The alternative that was meant, if that is clear: the only one with the value's type and constants, or the only one
/// of these whose required keys are all present.
fn meant(branches: &[Value], value: &Value) -> Option<usize> {
    let mut fitting: Vec<usize> = vec![];
    for (index, branch) in branches.iter().enumerate() {
        if fits(branch, value) {
            fitting.push(index);
        }
    }
    if fitting.len() > 1 {
        fitting.retain(|&index| branches.get(index).is_some_and(|branch| has_required(branch, value)));
    }
    match fitting[..] {
        [only] => Some(only),
        _ => None,
    }
}

fn fits(schema: &Value, value: &Value) -> bool {
    let schema = match schema {
        Value::Bool(any) => return *any,
        Value::Object(schema) => schema,
        _ => return false,
    };
    let is = |kind: &Value| match kind.as_str() {
        Some("null") => value.is_null(),
        Some("boolean") => value.is_boolean(),
        Some("integer") => value.as_f64().is_some_and(|number| number.fract() == 0.0),
        Some("number") => value.is_number(),
        Some("string") => value.is_string(),
        Some("array") => value.is_array(),
        Some("object") => value.is_object(),
        _ => false,
    };
    let of_type = match schema.get("type") {
        None => true,
        Some(Value::Array(kinds)) => kinds.iter().any(is),
        Some(kind) => is(kind),
    };
    let constant = schema.get("const").is_none_or(|constant| constant == value)
        && schema.get("enum").and_then(Value::as_array).is_none_or(|values| values.contains(value));
    let some = |keyword: &str| {
        schema.get(keyword).and_then(Value::as_array).is_none_or(|all| all.iter().any(|branch| fits(branch, value)))
    };
    of_type
        && constant
        && some("anyOf")
        && some("oneOf")
        && members(schema, "allOf").all(|each| fits(each, value))
        && words::tags(schema).all(|(tag, constant)| value.get(tag).is_none_or(|given| given == constant))
}

fn has_required(schema: &Value, value: &Value) -> bool {
    let required = schema.get("required").and_then(Value::as_array);
    required.into_iter().flatten().all(|key| key.as_str().is_some_and(|key| value.get(key).is_some()))
}
