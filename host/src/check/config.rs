//! Every key of the config, varied within what its schema allows.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::Notes;
use super::episodes::{seed_is_ignored, seeds_differ};
use super::pictures;
use super::play::{Played, Player, Stage, brief};
use super::rule::{Finding, Rule};
use crate::env::vec_env::VecEnv;
use crate::error::Error;

/// Steps in which a key must show an effect.
const STEPS: usize = 100;
const STEPS_QUICK: usize = 40;

/// Steps in which a value that is accepted must not meet a fault.
const FIRST_STEPS: usize = 30;

/// Steps in which a key must show an effect that comes late.
const LONG_STEPS: usize = 20_000;

/// Steps for which an action is held at most in such a long play.
const HOLD: u32 = 48;

/// The time that a long play may take where steps are slow.
const LONG_TIME: Duration = Duration::from_secs(4);

/// Values of one key that are tried, beside its default.
const VALUES_MAX: usize = 4;

/// Objects within objects that are looked into.
const DEPTH_MAX: usize = 8;

/// Values of other keys with which one without an effect is tried again.
const PAIRS_MAX: usize = 12;

/// Keys that are varied.
const KEYS_MAX: usize = 32;

/// A key, and values for it.
struct Key {
    /// The names of the objects around it, and its own.
    path: Vec<String>,
    values: Vec<Value>,
}

impl Key {
    fn shown(&self) -> String {
        self.path.join(".")
    }

    /// The config with this key set.
    fn set(&self, config: &Value, value: &Value) -> Value {
        let mut config = config.clone();
        let mut at = &mut config;
        for name in &self.path {
            if !at.is_object() {
                *at = Value::Object(Map::new());
            }
            at = &mut at[name.as_str()];
        }
        *at = value.clone();
        config
    }
}

/// `is_fixed`: different seeds gave the same episodes under the given config.
pub(super) fn look(stage: &Stage<'_>, first: &Played, is_fixed: bool, notes: &mut Notes) -> Result<(), Error> {
    let seed = stage.options.seed;
    let mut is_random = false;
    match keys(stage) {
        keys if keys.is_empty() => {
            notes.skip(Rule::ConfigMatters, "no key of the config has values to try");
            notes.skip(Rule::ConfigAccepted, "no key of the config has values to try");
        }
        _ if stage.is_outside() => {
            notes.skip(Rule::ConfigMatters, "what is granted comes from outside, and may differ");
            notes.skip(Rule::ConfigAccepted, "what is granted comes from outside, and may differ");
        }
        keys => {
            let steps = stage.steps(if stage.options.quick { STEPS_QUICK } else { STEPS });
            let base = seen(stage, &stage.options.config, steps)?.ok();
            let mut varying = Varying { stage, keys: &keys, steps, base, long: None, asks_random: is_fixed };
            for key in &keys {
                varying.vary(key, notes)?;
            }
            is_random = is_fixed && !varying.asks_random;
            notes.pass(Rule::ConfigMatters);
            notes.pass(Rule::ConfigAccepted);
        }
    }
    if is_fixed && first.fault.is_none() {
        notes.judge(Rule::SeedMatters, (!is_random).then(|| seed_is_ignored(seed)));
    }
    notes.skip(Rule::SeedMatters, "a fault came first");
    Ok(())
}

/// What an env shows under a config: its answers, and its pictures.
struct Seen {
    played: Played,
    pictures: Vec<[u8; 32]>,
}

impl Seen {
    fn differs_from(&self, other: &Seen) -> bool {
        self.played.difference(&other.played).is_some() || self.pictures != other.pictures
    }
}

/// Plays under a config. The inner error is the env's own refusal.
fn seen(stage: &Stage<'_>, config: &Value, steps: usize) -> Result<Result<Seen, String>, Error> {
    let (mut player, played) = match played_under(stage, config, steps)? {
        Ok(played) => played,
        Err(why) => return Ok(Err(why)),
    };
    let pictures = if played.fault.is_none() { pictures::hashes(stage, &mut player)? } else { Vec::new() };
    Ok(Ok(Seen { played, pictures }))
}

/// The keys, while they are varied.
struct Varying<'s> {
    stage: &'s Stage<'s>,
    keys: &'s [Key],
    steps: usize,
    /// What is seen under the given config; none if no env can be made under it.
    base: Option<Seen>,
    /// A long play under the given config, once it was needed.
    long: Option<Played>,
    /// Whether no config has made the env random yet, and that is asked.
    asks_random: bool,
}

impl Varying<'_> {
    /// Varies one key.
    fn vary(&mut self, key: &Key, notes: &mut Notes) -> Result<(), Error> {
        let (mut has_effect, mut tried) = (false, Vec::new());
        for value in &key.values {
            let config = key.set(&self.stage.options.config, value);
            let refused = if has_effect && !self.asks_random {
                // Whether it is accepted is all that is left to see.
                let plays = value.is_number() && self.base_plays();
                if plays { trouble(self.stage, &config)? } else { refusal(self.stage, &config)? }
            } else {
                match seen(self.stage, &config, self.steps)? {
                    Err(why) => Some(why),
                    Ok(Seen { played, .. }) if value.is_number() && played.fault.is_some() && self.base_plays() => {
                        fault_of(&played)
                    }
                    Ok(now) => {
                        tried.push(value.to_string());
                        has_effect |= self.base.as_ref().is_none_or(|base| base.differs_from(&now));
                        if self.asks_random && differs_by_seed(self.stage, &config, self.steps)? {
                            self.asks_random = false;
                        }
                        None
                    }
                }
            };
            if let Some(why) = refused {
                let seen = format!("{} = {value}: {}", key.shown(), brief(&why));
                notes.find(Rule::ConfigAccepted, Finding::new(seen));
                // It is read.
                has_effect = true;
            }
        }
        if !self.base_plays() {
            notes.skip(Rule::ConfigMatters, "a fault came first");
        } else if !has_effect && !self.has_late_effect(key)? {
            let steps = self.stage.steps_within(LONG_STEPS, LONG_TIME);
            let seen = format!("{}: no effect of {} in {steps} steps", key.shown(), tried.join(", "));
            notes.find(Rule::ConfigMatters, Finding::at(seen, self.stage.options.seed, 0));
        }
        Ok(())
    }

    /// Whether an env plays under the given config.
    fn base_plays(&self) -> bool {
        self.base.as_ref().is_some_and(|base| base.played.fault.is_none())
    }

    /// Whether a key has an effect that takes its time, on what comes of an end that is seldom reached, say; or one that it has only
    /// where another key is switched on or off.
    fn has_late_effect(&mut self, key: &Key) -> Result<bool, Error> {
        let given = &self.stage.options.config;
        let base = match self.long.take() {
            Some(base) => base,
            None => self.long_play(given)?,
        };
        let found = self.has_effect_beside(key, given, &base)?;
        self.long = Some(base);
        if found {
            return Ok(true);
        }
        let others = self.keys.iter().filter(|other| other.path != key.path);
        for (other, value) in
            others.flat_map(|other| other.values.iter().map(move |value| (other, value))).take(PAIRS_MAX)
        {
            let config = other.set(given, value);
            if refusal(self.stage, &config)?.is_none() {
                let base = self.long_play(&config)?;
                if self.has_effect_beside(key, &config, &base)? {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Whether a value of a key, set in a config, shows beside a play under that config.
    fn has_effect_beside(&self, key: &Key, config: &Value, base: &Played) -> Result<bool, Error> {
        for value in &key.values {
            let both = key.set(config, value);
            if refusal(self.stage, &both)?.is_none() && base.difference(&self.long_play(&both)?).is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn long_play(&self, config: &Value) -> Result<Played, Error> {
        let seed = self.stage.options.seed;
        let mut player = Player::new(self.stage.env_of(config)?, seed)?.holding(HOLD);
        player.play(seed, self.stage.steps_within(LONG_STEPS, LONG_TIME))
    }
}

/// Plays the first steps under a config. The inner error says why no env can be made.
fn played_under(stage: &Stage<'_>, config: &Value, steps: usize) -> Result<Result<(Player, Played), String>, Error> {
    let envs = match made_under(stage, config)? {
        Ok(envs) => envs,
        Err(why) => return Ok(Err(why)),
    };
    let mut player = Player::new(envs, stage.options.seed)?;
    let played = player.play(stage.options.seed, steps)?;
    Ok(Ok((player, played)))
}

/// Makes an env under a config. The inner error says why there can be none.
fn made_under(stage: &Stage<'_>, config: &Value) -> Result<Result<VecEnv, String>, Error> {
    match stage.env_of(config) {
        Ok(envs) => Ok(Ok(envs)),
        Err(Error::Usage(error)) => Ok(Err(error.message)),
        Err(Error::Fault(fault)) => Ok(Err(format!("{}: {}", fault.kind, fault.message))),
        Err(error) => Err(error),
    }
}

/// Why an env cannot be made or played under a config, if so.
fn trouble(stage: &Stage<'_>, config: &Value) -> Result<Option<String>, Error> {
    Ok(match played_under(stage, config, stage.steps(FIRST_STEPS))? {
        Ok((_, played)) => fault_of(&played),
        Err(why) => Some(why),
    })
}

/// The fault that ended a play, if there is one.
fn fault_of(played: &Played) -> Option<String> {
    let fault = played.fault.as_deref()?;
    Some(format!("step {}: {}: {}", played.rows.len(), fault.kind, fault.message))
}

/// Why an env cannot be made under a config, if so.
fn refusal(stage: &Stage<'_>, config: &Value) -> Result<Option<String>, Error> {
    Ok(made_under(stage, config)?.err())
}

fn differs_by_seed(stage: &Stage<'_>, config: &Value, steps: usize) -> Result<bool, Error> {
    let mut player = Player::new(stage.env_of(config)?, stage.options.seed)?;
    let mut plays = Vec::new();
    for seed in 0..3 {
        player.again(stage.options.seed)?;
        plays.push(player.play(stage.options.seed.wrapping_add(seed), steps)?);
    }
    Ok(seeds_differ(&plays))
}

/// The keys of the schema that have values to try: choices, switches and numbers.
fn keys(stage: &Stage<'_>) -> Vec<Key> {
    let text = &stage.prepared.description().config_schema;
    let schema: Value = serde_json::from_str(text).unwrap_or_default();
    let given = &stage.options.config;
    let mut keys = Vec::new();
    collect(&schema, &schema, given, &mut Vec::new(), &mut keys);
    keys.truncate(KEYS_MAX);
    keys
}

fn collect(root: &Value, schema: &Value, given: &Value, path: &mut Vec<String>, keys: &mut Vec<Key>) {
    let Some(properties) = schema["properties"].as_object() else { return };
    for (name, property) in properties {
        path.push(name.clone());
        let own = given.get(name).cloned();
        let definition = followed(root, property);
        if path.len() > DEPTH_MAX {
            // A schema may name itself.
        } else if definition["properties"].is_object() {
            collect(root, definition, &own.unwrap_or_default(), path, keys);
        } else {
            // What was given is meant so.
            let values = values(definition, &property["default"]);
            if own.is_none() && !values.is_empty() {
                keys.push(Key { path: path.clone(), values });
            }
        }
        path.pop();
    }
}

/// What a reference within the schema stands for.
fn followed<'s>(root: &'s Value, property: &'s Value) -> &'s Value {
    let target = property["$ref"].as_str().and_then(|path| root.pointer(path.strip_prefix('#')?));
    target.unwrap_or(property)
}

/// Values that a property's schema allows, other than the one that it has now.
fn values(property: &Value, now: &Value) -> Vec<Value> {
    let alternatives = property["oneOf"].as_array().or(property["anyOf"].as_array());
    let mut values: Vec<Value> = if let Some(choices) = property["enum"].as_array() {
        choices.clone()
    } else if let Some(alternatives) = alternatives {
        // Each choice with words of its own.
        let of = |one: &Value| {
            one.get("const").cloned().into_iter().chain(one["enum"].as_array().cloned().unwrap_or_default())
        };
        alternatives.iter().flat_map(of).collect()
    } else if property["type"] == "boolean" {
        vec![json!(true), json!(false)]
    } else if property["type"] == "integer" {
        integers(property, now)
    } else if property["type"] == "number" {
        numbers(property, now)
    } else {
        Vec::new()
    };
    // Null stands for what is not given.
    values.retain(|value| value != now && !value.is_null());
    // An end of a range may be a neighbour of the value now.
    let mut distinct: Vec<Value> = Vec::new();
    for value in values {
        if !distinct.contains(&value) {
            distinct.push(value);
        }
    }
    distinct.truncate(VALUES_MAX);
    distinct
}

/// The ends of a range that is not astronomical, else the neighbours of the value now.
fn integers(property: &Value, now: &Value) -> Vec<Value> {
    let number = |key: &str| property[key].as_i64();
    let low = number("minimum").or_else(|| number("exclusiveMinimum").map(|low| low.saturating_add(1)));
    let high = number("maximum").or_else(|| number("exclusiveMaximum").map(|high| high.saturating_sub(1)));
    let now = now.as_i64().or(low).or(high).unwrap_or(0);
    let step = number("multipleOf").filter(|step| *step > 0).unwrap_or(1);
    let fits = |value: &i64| low.is_none_or(|low| *value >= low) && high.is_none_or(|high| *value <= high);
    let near = [now.saturating_add(step), now.saturating_sub(step), now.saturating_mul(2)];
    let ends = [low, high].into_iter().flatten().filter(|end| end.abs_diff(now) <= 1_000_000);
    near.into_iter().filter(fits).chain(ends).map(|value| json!(value)).collect()
}

fn numbers(property: &Value, now: &Value) -> Vec<Value> {
    let number = |key: &str| property[key].as_f64();
    let low = number("minimum").or_else(|| number("exclusiveMinimum"));
    let high = number("maximum").or_else(|| number("exclusiveMaximum"));
    let now = now.as_f64().or(low).or(high).unwrap_or(0.0);
    let fits = |value: &f64| {
        low.is_none_or(|low| *value >= low)
            && high.is_none_or(|high| *value <= high)
            && number("exclusiveMinimum").is_none_or(|low| *value > low)
            && number("exclusiveMaximum").is_none_or(|high| *value < high)
    };
    // Inside of the range: its very ends are often where nothing is defined any more.
    let inside = match (low, high) {
        (Some(low), Some(high)) if (high - low).is_finite() => {
            vec![low + 0.75 * (high - low), low + 0.25 * (high - low), high, low]
        }
        _ => vec![now + now.abs().max(1.0), now - now.abs().max(1.0), now * 0.5],
    };
    inside.into_iter().filter(fits).map(|value| json!(value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_those_that_the_schema_allows() {
        let of = |property: Value, now: Value| values(&property, &now);
        assert_eq!(of(json!({"enum": ["a", "b", "c"]}), json!("b")), [json!("a"), json!("c")]);
        assert_eq!(of(json!({"type": "boolean"}), json!(true)), [json!(false)]);
        assert_eq!(of(json!({"type": "integer", "minimum": 1, "maximum": 3}), json!(3)), [json!(2), json!(1)]);
        assert_eq!(of(json!({"type": "integer"}), json!(4)), [json!(5), json!(3), json!(8)]);
        assert_eq!(of(json!({"type": "integer", "minimum": 0, "multipleOf": 2}), json!(0)), [json!(2)]);
        let half = of(json!({"type": "number", "minimum": 0.0, "exclusiveMaximum": 1.0}), json!(0.0));
        assert_eq!(half, [json!(0.75), json!(0.25)]);
        assert_eq!(of(json!({"type": "string"}), json!("a")), Vec::<Value>::new());
        let named = json!({"oneOf": [{"const": "a", "description": "A."}, {"enum": ["b"]}]});
        assert_eq!(of(named, json!("a")), [json!("b")]);
    }

    #[test]
    fn a_key_is_set_where_it_stands() {
        let key = Key { path: vec!["map".to_owned(), "size".to_owned()], values: Vec::new() };
        assert_eq!(key.set(&json!({"a": 1}), &json!(5)), json!({"a": 1, "map": {"size": 5}}));
    }
}
