//! The table of wrong configs (`tests/wrong.toml`), the hostile schemas, and what people type.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::{Value, json};

use super::schema::{SCHEMA_BYTES_MAX, SCHEMA_DEPTH_MAX};
use super::{
    CONFIG_BYTES_MAX, CONFIG_FILE_BYTES_MAX, CompleteConfig, ConfigSchema, KeyRow, NESTING_MAX, SCHEMA_PROPERTIES_MAX,
    SchemaError, assign, from_serialize, merge, parse_assignment, parse_file,
};
use crate::error::UsageError;

/// A schema as schemars writes it, from a struct with one key of every kind that authors use.
const SOCCER: &str = include_str!("tests/soccer.json");
/// A schema written by hand, with keywords that schemars does not write.
const ODD: &str = include_str!("tests/odd.json");
const WRONG: &str = include_str!("tests/wrong.toml");

fn schema(text: &str) -> ConfigSchema {
    ConfigSchema::parse(text).expect("an honest schema is accepted")
}

/// A schema of an object with these properties.
fn with(properties: Value) -> Value {
    json!({ "type": "object", "additionalProperties": false, "properties": properties })
}

fn refusal(schema: &Value) -> String {
    ConfigSchema::parse(&schema.to_string()).expect_err("a hostile schema is refused").to_string()
}

fn typed(assignments: &[&str]) -> Result<Value, UsageError> {
    let mut config = json!({});
    for text in assignments {
        let (path, value) = parse_assignment(text)?;
        assign(&mut config, &path, value)?;
    }
    Ok(config)
}

fn complete(text: &str, assignments: &[&str]) -> Result<CompleteConfig, UsageError> {
    schema(text).complete(typed(assignments)?, "soccer")
}

fn value_of(assignment: &str) -> Value {
    parse_assignment(assignment).expect("an assignment").1
}

fn complaint(assignment: &str) -> String {
    parse_assignment(assignment).expect_err("no assignment").message
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    wrong: Vec<Wrong>,
}

#[derive(Deserialize, PartialEq, Debug, Clone)]
#[serde(deny_unknown_fields)]
struct Wrong {
    schema: String,
    given: Vec<String>,
    message: String,
    #[serde(default)]
    also: Vec<String>,
}

#[test]
fn wrong_configs_are_told_word_for_word() {
    let table: Table = toml::from_str(WRONG).expect("the table is TOML");
    assert!(table.wrong.len() >= 30);
    let mut told = vec![];
    for wrong in &table.wrong {
        let schema = schema(if wrong.schema == "odd" { ODD } else { SOCCER });
        let given: Vec<_> = wrong.given.iter().map(String::as_str).collect();
        let config = typed(&given).expect("every row can be typed");
        let error = schema.complete(config, "soccer").expect_err(&format!("{given:?} is wrong"));
        let (last, also) = error.hints.split_last().expect("a hint");
        assert_eq!(last, "`rollcage inspect soccer` lists every key with its range");
        told.push(Wrong { message: error.message, also: also.to_vec(), ..wrong.clone() });
    }
    if std::env::var_os("ROLLCAGE_UPDATE").is_some() {
        std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/src/plugin/config/tests/wrong.toml"), written(&told))
            .expect("the table can be written");
        return;
    }
    for (told, wrong) in told.iter().zip(&table.wrong) {
        assert_eq!(told, wrong);
    }
}

/// The table as TOML, after the comment that it begins with.
fn written(table: &[Wrong]) -> String {
    let mut text = String::new();
    for line in WRONG.lines().take_while(|line| line.starts_with('#')) {
        writeln!(text, "{line}").expect("a string grows");
    }
    let quoted = |text: &str| {
        let literal = !text.contains('\'') && !text.chars().any(char::is_control);
        if literal { format!("'{text}'") } else { Value::from(text).to_string() }
    };
    let list = |items: &[String]| items.iter().map(|item| quoted(item)).collect::<Vec<_>>();
    for row in table {
        writeln!(text, "\n[[wrong]]\nschema = \"{}\"\ngiven = [{}]", row.schema, list(&row.given).join(", "))
            .and_then(|()| writeln!(text, "message = {}", quoted(&row.message)))
            .expect("a string grows");
        if !row.also.is_empty() {
            writeln!(text, "also = [\n  {},\n]", list(&row.also).join(",\n  ")).expect("a string grows");
        }
    }
    text
}

/// A schema, and the message of its refusal.
type Hostile = (&'static str, fn() -> Value, &'static str);

const HOSTILE: &[Hostile] = &[
    (
        "remote reference",
        || with(json!({ "a": { "$ref": "https://example.com/schema.json" } })),
        "config schema at `#/properties/a`: reference to \"https://example.com/schema.json\"; only `#/$defs/NAME` is allowed",
    ),
    (
        "file reference",
        || with(json!({ "a": { "$ref": "file:///etc/passwd" } })),
        "config schema at `#/properties/a`: reference to \"file:///etc/passwd\"; only `#/$defs/NAME` is allowed",
    ),
    (
        "relative reference",
        || with(json!({ "a": { "$ref": "other.json#/$defs/a" } })),
        "config schema at `#/properties/a`: reference to \"other.json#/$defs/a\"; only `#/$defs/NAME` is allowed",
    ),
    (
        "reference into a property",
        || with(json!({ "a": { "$ref": "#/properties/a" } })),
        "config schema at `#/properties/a`: reference to \"#/properties/a\"; only `#/$defs/NAME` is allowed",
    ),
    (
        "reference that is a number",
        || with(json!({ "a": { "$ref": 3 } })),
        "config schema at `#/properties/a`: reference to 3; only `#/$defs/NAME` is allowed",
    ),
    (
        "reference to the root",
        || with(json!({ "a": { "$ref": "#" } })),
        "config schema at `#/properties/a`: reference to \"#\" is recursive",
    ),
    (
        "reference to itself",
        || defined(json!({ "A": { "$ref": "#/$defs/A" } })),
        "config schema at `#/properties/a/$ref`: reference to \"#/$defs/A\" is recursive",
    ),
    (
        "tree",
        || defined(json!({ "A": { "type": "array", "items": { "$ref": "#/$defs/A" } } })),
        "config schema at `#/properties/a/$ref/items`: reference to \"#/$defs/A\" is recursive",
    ),
    (
        "two references to each other",
        || defined(json!({ "A": { "items": { "$ref": "#/$defs/B" } }, "B": { "not": { "$ref": "#/$defs/A" } } })),
        "config schema at `#/properties/a/$ref/items/$ref/not`: reference to \"#/$defs/A\" is recursive",
    ),
    (
        "recursion that nothing uses",
        || defined(json!({ "A": true, "B": { "items": { "$ref": "#/$defs/B" } } })),
        "config schema at `#/$defs/B/items`: reference to \"#/$defs/B\" is recursive",
    ),
    (
        "undefined reference",
        || defined(json!({})),
        "config schema at `#/properties/a`: reference to \"#/$defs/A\", which is not defined",
    ),
    (
        "references that double",
        || {
            let mut definitions = json!({ "D30": true });
            for depth in 0..30 {
                let next = format!("#/$defs/D{}", depth + 1);
                definitions[format!("D{depth}")] = json!({ "allOf": [{ "$ref": next }, { "$ref": next }] });
            }
            definitions["A"] = json!({ "$ref": "#/$defs/D0" });
            defined(definitions)
        },
        "config schema at `#/properties/a/$ref/$ref/allOf/0/$ref/allOf/0/$ref/allOf/0/$ref/allOf/0/$ref/allOf/0/$ref/allOf/0/\
         $ref/allOf/0/$ref/allOf/0/$ref/allOf/0/$ref/allOf/0/$ref/allOf/0/$ref/allOf/0/$ref/allOf/0/$ref/allOf/…`: nested more \
         than 16 deep",
    ),
    (
        "references that multiply",
        || {
            let copies = |name: &str| vec![json!({ "$ref": format!("#/$defs/{name}") }); 100];
            defined(
                json!({ "A": { "anyOf": copies("B") }, "B": { "anyOf": copies("C") }, "C": { "anyOf": copies("D") }, "D": {} }),
            )
        },
        "config schema at `#/properties/a/$ref/anyOf/2/$ref/anyOf/14/$ref/anyOf/56/$ref`: more than 262144 bytes with its \
         references followed",
    ),
    (
        "a long chain of references",
        || {
            let mut definitions = json!({ "D1000": true, "A": { "$ref": "#/$defs/D0" } });
            for depth in 0..1000 {
                definitions[format!("D{depth}")] = json!({ "$ref": format!("#/$defs/D{}", depth + 1) });
            }
            defined(definitions)
        },
        "config schema at `#/properties/a/$ref/$ref/$ref/$ref/$ref/$ref/$ref/$ref/$ref/$ref/$ref/$ref/$ref/$ref/$ref/$ref`: \
         nested more than 16 deep",
    ),
    (
        "base",
        || with_root("$id", json!("https://example.com/")),
        "config schema at `#`: keyword `\"$id\"` is not allowed here",
    ),
    (
        "anchor",
        || with(json!({ "a": { "$anchor": "here" } })),
        "config schema at `#/properties/a`: keyword `\"$anchor\"` is not allowed here",
    ),
    (
        "dynamic reference",
        || with(json!({ "a": { "$dynamicRef": "#a" } })),
        "config schema at `#/properties/a`: keyword `\"$dynamicRef\"` is not allowed here",
    ),
    (
        "recursive reference of an older draft",
        || with(json!({ "a": { "$recursiveRef": "#" } })),
        "config schema at `#/properties/a`: keyword `\"$recursiveRef\"` is not allowed here",
    ),
    (
        "unevaluated properties",
        || with(json!({ "a": { "unevaluatedProperties": false } })),
        "config schema at `#/properties/a`: keyword `unevaluatedProperties` is not allowed here",
    ),
    (
        "definitions inside",
        || with(json!({ "a": { "$defs": {} } })),
        "config schema at `#/properties/a`: keyword `\"$defs\"` is not allowed here",
    ),
    (
        "misspelt keyword",
        || with(json!({ "a": { "minumum": 3 } })),
        "config schema at `#/properties/a`: keyword `minumum` is not allowed here",
    ),
    (
        "dialect of one's own",
        || with_root("$schema", json!("https://example.com/meta")),
        "config schema is written for \"https://example.com/meta\"; only JSON Schema 2020-12 is read",
    ),
    (
        "10,000 properties",
        || with((0..10_000).map(|index| (index.to_string(), json!(1))).collect::<serde_json::Map<_, _>>().into()),
        "config schema of 88951 bytes; at most 65536 are allowed",
    ),
    (
        "1,000 properties",
        || with((0..1_000).map(|index| (index.to_string(), json!({}))).collect::<serde_json::Map<_, _>>().into()),
        "config schema at `#/properties`: more than 256 properties in all",
    ),
    (
        "300 properties by reference",
        || {
            let keys: serde_json::Map<_, _> = (0..100).map(|index| (format!("k{index}"), json!({}))).collect();
            let mut schema = with(
                json!({ "a": { "$ref": "#/$defs/A" }, "b": { "$ref": "#/$defs/A" }, "c": { "$ref": "#/$defs/A" } }),
            );
            schema["$defs"] = json!({ "A": { "properties": keys } });
            schema
        },
        "config schema at `#/properties/c/$ref/properties`: more than 256 properties in all",
    ),
    (
        "17 schemas inside each other",
        || with(json!({ "a": (2..17).fold(json!(true), |inner, _| json!({ "not": inner })) })),
        "config schema at `#/properties/a/not/not/not/not/not/not/not/not/not/not/not/not/not/not/not`: nested more than 16 deep",
    ),
    (
        "a default 100 deep",
        || with(json!({ "a": { "default": (0..100).fold(json!(1), |inner, _| json!([inner])) } })),
        "config schema at `#`: nested more than 64 deep",
    ),
    ("not an object", || json!([1]), NOT_CLOSED),
    ("true", || json!(true), NOT_CLOSED),
    ("open", || json!({ "type": "object", "properties": {} }), NOT_CLOSED),
    ("of another type", || json!({ "type": ["object", "null"], "additionalProperties": false }), NOT_CLOSED),
    (
        "lookahead",
        || with(json!({ "a": { "pattern": "^(?=a)b" } })),
        "config schema at `#/properties/a/pattern`: pattern \"^(?=a)b\" is not one that matches in linear time and bounded memory",
    ),
    (
        "back reference",
        || with(json!({ "a": { "pattern": "(a)\\1" } })),
        "config schema at `#/properties/a/pattern`: pattern \"(a)\\\\1\" is not one that matches in linear time and bounded memory",
    ),
    (
        "pattern that repeats repeats",
        || with(json!({ "a": { "pattern": "((a{99}){99}){99}" } })),
        "config schema at `#/properties/a/pattern`: pattern \"((a{99}){99}){99}\" is not one that matches in linear time and \
         bounded memory",
    ),
    (
        "pattern of a property",
        || with(json!({ "a": { "patternProperties": { "(?<!a)b": true } } })),
        "config schema at `#/properties/a/patternProperties/(?<!a)b`: pattern \"(?<!a)b\" is not one that matches in linear time and \
         bounded memory",
    ),
    (
        "properties that are none",
        || json!({ "type": "object", "additionalProperties": false, "properties": 3 }),
        "config schema at `#/properties`: expected an object of schemas",
    ),
    (
        "a schema that is none",
        || with(json!({ "a": 3 })),
        "config schema at `#/properties/a`: expected a schema: an object, `true` or `false`",
    ),
    (
        "a minimum that is none",
        || with(json!({ "a": { "minimum": "3" } })),
        "config schema at `#/properties/a/minimum`: \"3\" is not of type \"number\"",
    ),
    (
        "a multiple of nothing",
        || with(json!({ "a": { "multipleOf": 0 } })),
        "config schema at `#/properties/a/multipleOf`: 0 is less than or equal to the minimum of 0",
    ),
    (
        "a default out of range",
        || with(json!({ "a": { "type": "integer", "maximum": 3, "default": 4 } })),
        "config schema has a default that it refuses: config `a`: expected an integer of at most 3, got 4",
    ),
    (
        "defaults that multiply",
        || {
            let item = json!({ "type": "object", "properties": { "text": { "default": "x".repeat(1000) } } });
            with(json!({ "a": { "type": "array", "items": item, "default": vec![json!({}); 1000] } }))
        },
        "config schema has a default that it refuses: config: more than 61440 bytes with its defaults",
    ),
    (
        "escape sequences",
        || with(json!({ "\u{1b}[2J": { "\u{9b}\u{202e}": 1 } })),
        "config schema at `#/properties/\\u{1b}[2J`: keyword `\"\\u{9b}\\u{202e}\"` is not allowed here",
    ),
];

const NOT_CLOSED: &str =
    "config schema must have `\"type\": \"object\"` and `\"additionalProperties\": false` at its root";

/// A schema with one property, which refers to the definition `A`.
fn defined(definitions: Value) -> Value {
    with_root_of(with(json!({ "a": { "$ref": "#/$defs/A" } })), "$defs", definitions)
}

fn with_root(keyword: &str, value: Value) -> Value {
    with_root_of(with(json!({})), keyword, value)
}

fn with_root_of(mut schema: Value, keyword: &str, value: Value) -> Value {
    schema[keyword] = value;
    schema
}

#[test]
fn hostile_schemas_are_refused() {
    for (name, schema, message) in HOSTILE {
        let started = Instant::now();
        assert_eq!(refusal(&schema()), *message, "{name}");
        assert!(started.elapsed() < Duration::from_secs(5), "{name} took {:?}", started.elapsed());
    }
}

#[test]
fn text_that_is_no_schema_is_refused() {
    let refusal = |text: &str| ConfigSchema::parse(text).expect_err("no schema");
    assert_eq!(refusal("").to_string(), "config schema is not JSON: line 1, column 0: EOF while parsing a value");
    assert_eq!(refusal("{").to_string(), "config schema is not JSON: line 1, column 1: EOF while parsing an object");
    assert_eq!(
        refusal(r#"{"type": 1, "type": 2}"#).to_string(),
        "config schema is not JSON: line 1, column 18: `type`: given twice"
    );
    assert_eq!(refusal(&" ".repeat(SCHEMA_BYTES_MAX + 1)), SchemaError::TooLong { bytes: SCHEMA_BYTES_MAX + 1 });
    for open in ["[", "{\"a\":", "[{\"a\":"] {
        assert_eq!(refusal(&open.repeat(1_000)), SchemaError::TooDeep { at: "#".to_owned(), max: NESTING_MAX });
    }
}

#[test]
fn the_limits_themselves_are_allowed() {
    let keys: serde_json::Map<_, _> =
        (0..SCHEMA_PROPERTIES_MAX).map(|index| (format!("k{index}"), json!({}))).collect();
    assert_eq!(schema(&with(keys.into()).to_string()).table().len(), SCHEMA_PROPERTIES_MAX);
    let deepest = (2..SCHEMA_DEPTH_MAX).fold(json!(true), |inner, _| json!({ "items": inner }));
    schema(&with(json!({ "a": deepest })).to_string());
    let honest = with(json!({
        "a": { "pattern": "(a+)+$", "format": "regex", "$comment": "x", "x-order": 1 },
        "b": { "pattern": "^\\p{L}+$" },
        "c": { "$ref": "#/$defs/a~1b%20c" },
    }));
    schema(&with_root_of(honest, "$defs", json!({ "a/b c": { "type": "null" } })).to_string());
}

/// The cost of hostile schemas that are accepted: each takes as long as a schema can.
#[test]
fn no_schema_makes_a_config_hang() {
    let letters: String =
        (0..26_000_u32).map(|index| if index.wrapping_mul(2_654_435_761) >> 31 == 1 { 'a' } else { 'b' }).collect();
    let anything = with(json!({ "s": {
        "items": { "anyOf": vec![json!(false); 9_000] }
    } }));
    let slow = [
        (anything.clone(), json!({ "s": vec![1; 100] })),
        (anything, json!({ "s": vec![1; 20_000] })),
        (with(json!({ "s": { "pattern": "(a|b)*a(a|b){400}c" } })), json!({ "s": letters })),
        (with(json!({ "s": { "pattern": "(a+)+$" } })), json!({ "s": "a".repeat(50_000) + "b" })),
        (
            with(json!({ "s": { "items": { "enum": (0..9_000).collect::<Vec<_>>() } } })),
            json!({ "s": vec![-1; 20_000] }),
        ),
        (
            with(json!({ "s": { "allOf": vec![json!({ "uniqueItems": true }); 1_000] } })),
            json!({ "s": (0..5_000).map(|index| json!([index])).collect::<Vec<_>>() }),
        ),
        (
            with(
                json!({ "s": { "items": (0..13).fold(json!({ "enum": (0..9_000).collect::<Vec<_>>() }), |inner, _| json!({ "anyOf": [inner] })) } }),
            ),
            json!({ "s": vec![-1; 20_000] }),
        ),
        (with(json!({ "s": { "minItems": 1e300 } })), json!({ "s": [] })),
        (with(json!({ "s": { "multipleOf": 5e-324 } })), json!({ "s": 0.3 })),
        (
            with(
                json!({ "s": (0..11).fold(json!({ "type": "null" }), |inner, _| json!({ "anyOf": [inner, inner] })) }),
            ),
            json!({ "s": 1 }),
        ),
    ];
    for (schema, config) in slow {
        let schema = schema.to_string();
        let started = Instant::now();
        let accepted = ConfigSchema::parse(&schema);
        if let Ok(accepted) = accepted {
            let outcome = accepted.complete(config, "slow");
            assert!(outcome.as_ref().map_or(true, |complete| complete.canonical.len() <= CONFIG_BYTES_MAX));
        }
        assert!(started.elapsed() < Duration::from_secs(20), "{:.80} took {:?}", schema, started.elapsed());
    }
}

#[test]
fn defaults_are_filled_in_and_keys_put_in_order() {
    let complete =
        complete(SOCCER, &["level=4", "field.width=7.0", "obstacles=[{y=1,x=2}]", "gravity=5"]).expect("valid");
    assert_eq!(
        complete.canonical,
        r#"{"desc":null,"field":{"length":30,"width":7},"gravity":5,"is_slippery":true,"label":"robot","level":4,"#
            .to_owned()
            + r#""map_name":"4x4","max_steps":500,"mode":null,"noise":null,"obstacles":[{"radius":1,"x":2,"y":1}],"#
            + r#""opponent":null,"pair":[1,"a"],"reward_schedule":[1,0,0],"seed_offset":0,"#
            + r#""start":{"kind":"fixed","x":0},"weights":{}}"#
    );
    let keys: Vec<_> = complete.value.as_object().expect("an object").keys().map(String::as_str).collect();
    assert_eq!(keys[..5], ["gravity", "max_steps", "map_name", "desc", "is_slippery"]);
    let again: Value = serde_json::from_str(&complete.canonical).expect("canonical JSON is JSON");
    assert_eq!(again, complete.value);
}

#[test]
fn a_nested_default_applies_where_its_object_is() {
    let boxes = complete(ODD, &["team=them", "boxes=[{}, {high=5}]"]).expect("valid");
    assert_eq!(
        boxes.canonical,
        r#"{"box":{"high":2,"wide":1},"boxes":[{"high":2,"wide":1},{"high":5,"wide":1}],"team":"them"}"#
    );
    let shape = complete(ODD, &["team=them", "shape.Square={}", "box={wide=0}"]).expect("valid");
    assert_eq!(shape.canonical, r#"{"box":{"high":2,"wide":0},"shape":{"Square":{"high":2,"wide":1}},"team":"them"}"#);
}

#[test]
fn whole_numbers_are_integers() {
    let complete = complete(SOCCER, &["level=4.0", "seed_offset=-0.0", "max_steps=1e3", "gravity=0.1"]).expect("valid");
    assert_eq!(complete.value["level"].as_u64(), Some(4));
    assert_eq!(complete.value["seed_offset"].as_i64(), Some(0));
    assert_eq!(complete.value["max_steps"].as_u64(), Some(1000));
    assert_eq!(complete.value["gravity"].as_f64(), Some(0.1));
}

#[test]
fn a_config_has_room_for_60_kib() {
    let text = with(json!({ "text": { "type": "string" } })).to_string();
    let fits = "x".repeat(CONFIG_BYTES_MAX - r#"{"text":""}"#.len());
    assert!(schema(&text).complete(json!({ "text": fits }), "p").is_ok());
    let error = schema(&text).complete(json!({ "text": fits + "x" }), "p").expect_err("too long");
    assert_eq!(error.message, "config: 61441 bytes as canonical JSON; at most 61440 are allowed");
}

#[test]
fn a_config_is_an_object() {
    let error = schema(SOCCER).complete(json!([1]), "soccer").expect_err("a list");
    assert_eq!(error.message, "config: expected an object, got [1]");
    let nothing = schema(&with(json!({})).to_string()).complete(json!({ "a": 1, "b": 2 }), "p").expect_err("no keys");
    assert_eq!(nothing.message, "config `a`: unknown key; this plugin takes no config");
    assert_eq!(nothing.hints[0], "also config `b`: unknown key; this plugin takes no config");
    let mut deep = json!(1);
    for _ in 0..200 {
        deep = json!([deep]);
    }
    let error = schema(ODD).complete(json!({ "team": "them", "anything": deep }), "p").expect_err("too deep");
    assert!(error.message.ends_with("[0][0]`: nested more than 64 deep"), "{}", error.message);
}

#[test]
fn a_plugins_name_is_escaped() {
    let error = schema(SOCCER).complete(json!({ "gravity": "x" }), "\u{1b}[31m.wasm").expect_err("no number");
    assert_eq!(error.hints, ["`rollcage inspect '\\u{1b}[31m.wasm'` lists every key with its range"]);
}

#[test]
fn values_are_toml_or_strings() {
    for (given, value) in [
        ("n=3", json!(3)),
        ("n=-0x1", json!("-0x1")),
        ("n=0xff", json!(255)),
        ("n=1_000", json!(1000)),
        ("n=18446744073709551615", json!(u64::MAX)),
        ("n=007", json!("007")),
        ("n=1.5", json!(1.5)),
        ("n=1e3", json!(1000.0)),
        ("n=true", json!(true)),
        ("n=True", json!("True")),
        ("n=null", json!(null)),
        ("n=\"null\"", json!("null")),
        ("n=", json!("")),
        ("n=8x8", json!("8x8")),
        ("n=a=b", json!("a=b")),
        ("n= with spaces ", json!(" with spaces ")),
        ("n=[\"SF\",\"HG\"]", json!(["SF", "HG"])),
        ("n=[1, 2", json!("[1, 2")),
        ("n={a=1, b.c=2}", json!({ "a": 1, "b": { "c": 2 } })),
        ("n='literal'", json!("literal")),
        ("n=1979-05-27", json!("1979-05-27")),
        ("n=1979-05-27 07:32:00", json!("1979-05-27 07:32:00")),
        ("n=[1979-05-27]", json!(["1979-05-27"])),
        ("n=1\nm=2", json!("1\nm=2")),
    ] {
        assert_eq!(value_of(given), value, "{given}");
    }
    assert_eq!(complaint("n=nan"), "config `n`: expected a finite number, got nan");
    assert_eq!(complaint("n.m=-inf"), "config `n.m`: expected a finite number, got -inf");
    assert_eq!(complaint("n=[1, inf]"), "config `n`: `[1]`: expected a finite number, got inf");
    assert_eq!(complaint("n=99999999999999999999"), "config `n`: 99999999999999999999 does not fit in 64 bits");
    assert!(complaint(&format!("n={}", "9".repeat(100))).starts_with("config `n`: "));
}

#[test]
fn paths_are_tomls() {
    let path = |text: &str| parse_assignment(text).expect("an assignment").0;
    assert_eq!(path("a.b.c=1"), ["a", "b", "c"]);
    assert_eq!(path(" a . b =1"), ["a", "b"]);
    assert_eq!(path("\"a.b\".'c=d'=1"), ["a.b", "c=d"]);
    assert_eq!(path("\"\\u0041\\\"\"=1"), ["A\""]);
    assert_eq!(path("größe=1"), ["größe"]);
    for (wrong, why) in [
        ("gravity", "there is no `=`"),
        ("", "there is no `=`"),
        ("=1", "a key is missing or needs quotes"),
        ("a..b=1", "a key is missing or needs quotes"),
        ("a b=1", "a key with other characters than letters, digits, `_` and `-` needs quotes"),
        ("a[0]=1", "a key with other characters than letters, digits, `_` and `-` needs quotes"),
        ("\"a=1", "a quote is not closed"),
        ("\"\\q\"=1", "a quoted key is not a TOML string"),
    ] {
        assert_eq!(complaint(wrong), format!("config: expected KEY=VALUE, got {}; {why}", json!(wrong)));
    }
    assert!(complaint(&format!("{}a=1", "a.".repeat(100_000))).ends_with("; the path is too long"));
}

#[test]
fn later_assignments_win() {
    assert_eq!(typed(&["a.b=1", "a.c=2", "a.b=3"]).expect("typed"), json!({ "a": { "b": 3, "c": 2 } }));
    assert_eq!(typed(&["a.b=1", "a=2"]).expect("typed"), json!({ "a": 2 }));
    let error = typed(&["a.b=3", "a.b.c=4"]).expect_err("a number has no keys");
    assert_eq!(error.message, "config `a.b.c`: `a.b` is 3, not an object with keys");
}

#[test]
fn objects_are_merged_and_all_else_replaced() {
    let merged =
        merge(json!({ "a": { "b": 1, "c": [1, 2] }, "d": 1 }), json!({ "a": { "c": [3], "e": 4 }, "d": { "f": 1 } }));
    assert_eq!(merged, json!({ "a": { "b": 1, "c": [3], "e": 4 }, "d": { "f": 1 } }));
}

#[test]
fn files_say_the_same_in_every_format() {
    let expected = json!({ "gravity": 9.5, "field": { "length": 10 }, "desc": ["SF", "HG"], "flag": true });
    for (name, text) in [
        ("param.toml", "gravity = 9.5\ndesc = [\"SF\", \"HG\"]\nflag = true\n[field]\nlength = 10\n"),
        ("a/param.JSON", r#"{ "gravity": 9.5, "field": { "length": 10 }, "desc": ["SF", "HG"], "flag": true }"#),
        ("param.yaml", "# a comment\ngravity: 9.5\nfield:\n  length: 10\ndesc: [SF, HG]\nflag: true\n"),
        ("param.yml", "gravity: 9.5\nfield: { length: 10 }\ndesc:\n- SF\n- \"HG\"\nflag: true\n"),
        ("param.toml", "\u{feff}gravity = 9.5\ndesc = [\"SF\", \"HG\"]\nflag = true\nfield.length = 10\n"),
    ] {
        assert_eq!(parse_file(name, text), Ok(expected.clone()), "{name}");
    }
    assert_eq!(
        parse_file("a.yaml", "a: 8x8\nb: ~\nc: 1e3\n1: x\n"),
        Ok(json!({ "a": "8x8", "b": null, "c": 1000.0, "1": "x" }))
    );
    assert_eq!(parse_file("a.toml", "a = 1979-05-27\n"), Ok(json!({ "a": "1979-05-27" })));
    assert_eq!(parse_file("a.toml", ""), Ok(json!({})));
}

/// A file, and the message for it.
const FILES: &[(&str, &str, &str)] = &[
    ("a.ini", "", "config file `a.ini`: expected a name that ends in .toml, .json, .yaml or .yml"),
    ("json", "{}", "config file `json`: expected a name that ends in .toml, .json, .yaml or .yml"),
    ("a.json", "[1]", "config file `a.json`: expected keys and values at the top, got [1]"),
    ("a.yaml", "", "config file `a.yaml`: expected keys and values at the top, got null"),
    ("a.json", "{\n  \"a\": 1,\n}", "config file `a.json`: line 3, column 1: trailing comma"),
    ("a.json", "{\"a\": 1} x", "config file `a.json`: line 1, column 10: trailing characters"),
    ("a.json", "{\"a\": {\"b\": 1,\n \"b\": 2}}", "config file `a.json`: line 2, column 4: `a.b`: given twice"),
    ("a.json", "{\"a\": 1e999}", "config file `a.json`: line 1, column 11: number out of range"),
    ("a.toml", "a = 1\nb = = 2\n", "config file `a.toml`: line 2, column 5: extra `=`, expected nothing"),
    ("a.toml", "a = 1\na = 2\n", "config file `a.toml`: line 2, column 1: duplicate key"),
    (
        "a.toml",
        "[field]\nlength = nan\n",
        "config file `a.toml`: line 2, column 10: `field.length`: expected a finite number, got nan",
    ),
    (
        "a.toml",
        "a = 99999999999999999999\n",
        "config file `a.toml`: line 1, column 5: `a`: 99999999999999999999 does not fit in 64 bits",
    ),
    (
        "a.yaml",
        "a: 1\n b: 2\n",
        "config file `a.yaml`: line 2, column 3: mapping values are not allowed in this context",
    ),
    ("a.yaml", "a: 1\na: 2\n", "config file `a.yaml`: line 2, column 1: duplicate mapping key `a` is not allowed here"),
    (
        "a.yaml",
        "field:\n  length: .nan\n",
        "config file `a.yaml`: line 2, column 11: `field.length`: expected a finite number, got nan",
    ),
    ("a.yaml", "a: [-.inf]\n", "config file `a.yaml`: line 1, column 5: `a[0]`: expected a finite number, got -inf"),
    (
        "a.yaml",
        "a: 1\n---\nb: 2\n",
        "config file `a.yaml`: line 3, column 1: only single YAML document expected but multiple found",
    ),
    ("a.yaml", "a: *b\n", "config file `a.yaml`: line 1, column 4: reference to unknown value"),
    ("\u{1b}[1m.json", "{", "config file `\\u{1b}[1m.json`: line 1, column 1: EOF while parsing an object"),
];

#[test]
fn wrong_files_are_told_with_line_and_column() {
    for (name, text, message) in FILES {
        assert_eq!(parse_file(name, text).expect_err(text).message, *message, "{name}: {text}");
    }
    let long = " ".repeat(CONFIG_FILE_BYTES_MAX + 1);
    assert_eq!(
        parse_file("a.json", &long).expect_err("long").message,
        "config file `a.json`: 1048577 bytes; at most 1048576 are read"
    );
}

#[test]
fn files_cannot_exhaust_memory_or_stack() {
    let deep = 100_000;
    let long = format!("a: &a \"{}\"\nb: [{}]\n", "x".repeat(500_000), "*a,".repeat(40_000));
    let mut bomb = "a0: &a0 [1,1,1,1,1,1,1,1]\n".to_owned();
    for level in 1..12 {
        let aliases = vec![format!("*a{}", level - 1); 8].join(",");
        writeln!(bomb, "a{level}: &a{level} [{aliases}]").expect("a string grows");
    }
    for (name, text) in [
        ("a.json", format!("{{\"a\":{}", "[".repeat(deep))),
        ("a.json", "{\"a\":".repeat(deep)),
        ("a.toml", format!("a = {}", "[".repeat(deep))),
        ("a.toml", format!("{}a = 1", "a.".repeat(deep))),
        ("a.toml", format!("[{}a]", "a.".repeat(deep))),
        ("a.yaml", format!("a: {}", "[".repeat(deep))),
        ("a.yaml", format!("a: {}", "- ".repeat(deep))),
        ("a.yaml", bomb),
        ("a.yaml", long),
    ] {
        let started = Instant::now();
        parse_file(name, &text).expect_err("hostile");
        assert!(started.elapsed() < Duration::from_secs(20), "{name}: {text:.40} took {:?}", started.elapsed());
    }
}

#[test]
fn rust_values_are_configs() {
    #[derive(serde::Serialize)]
    struct Config {
        gravity: f64,
        name: Option<&'static str>,
    }
    assert_eq!(from_serialize(&Config { gravity: 1.5, name: None }), Ok(json!({ "gravity": 1.5, "name": null })));
    let complaint = |config: Result<Value, UsageError>| config.expect_err("no config").message;
    assert_eq!(
        complaint(from_serialize(&Config { gravity: f64::NAN, name: None })),
        "config `gravity`: expected a finite number, got nan"
    );
    let nested = std::collections::BTreeMap::from([("a", vec![Some(Ok::<_, ()>(f32::INFINITY))])]);
    assert_eq!(complaint(from_serialize(&nested)), "config `a[0].Ok`: expected a finite number, got inf");
    let pairs = std::collections::BTreeMap::from([((1, 2), 3)]);
    assert_eq!(complaint(from_serialize(&pairs)), "config: key must be a string");
    assert_eq!(from_serialize(&[1]).expect_err("a list").message, "config: expected an object, got [1]");
    assert_eq!(from_serialize(&json!({ "a": 1 })), Ok(json!({ "a": 1 })));
}

#[test]
fn the_table_has_every_key() {
    let rows = schema(SOCCER).table();
    let row = |key: &str| rows.iter().find(|row| row.key == key).unwrap_or_else(|| panic!("no row for {key}")).clone();
    let expected = |key: &str, type_text: &str, default: &str, range: &str, doc: &str| KeyRow {
        key: key.to_owned(),
        type_text: type_text.to_owned(),
        default: default.to_owned(),
        range: range.to_owned(),
        doc: doc.to_owned(),
    };
    for wanted in [
        expected("gravity", "number", "9.8", "from 0 to 100", "Downward acceleration, in m/s²."),
        expected("map_name", "string", "\"4x4\"", "one of `4x4`, `8x8`", "Which of the built-in maps is played."),
        expected("field.length", "number", "30", "from 1 to 100", "Metres."),
        expected("noise", "number or null", "null", "above 0", ""),
        expected(
            "reward_schedule",
            "list of numbers",
            "[1.0,0.0,0.0]",
            "3 items",
            "Rewards for goal, hole and frozen.",
        ),
        expected("obstacles", "list of objects", "[]", "", ""),
        expected("obstacles[].x", "number", "required", "", ""),
        expected("start", "object", "{\"kind\":\"fixed\",\"x\":0.0}", "its kind one of `fixed`, `random`", ""),
        expected("opponent", "object or null", "null", "", ""),
        expected("opponent.port", "integer", "required", "from 0 to 65535", "Its port."),
        expected("mode", "string or null", "null", "one of `Fast`, `Slow`", ""),
    ] {
        assert_eq!(row(&wanted.key), wanted);
    }
    assert_eq!(rows.len(), 23);
}

#[test]
fn the_table_is_printable_and_bounded() {
    let doc = "\u{1b}[31mred\u{202e}\r\nnext line".to_owned() + &"x".repeat(20_000);
    let rows = schema(
        &with(
            json!({ "\u{7}bell": { "description": doc, "default": "y".repeat(20_000), "enum": ["y".repeat(20_000)] } }),
        )
        .to_string(),
    )
    .table();
    let [row] = &rows[..] else { panic!("one row") };
    assert!(row.doc.starts_with("\\u{1b}[31mred\\u{202e} next line"), "{}", row.doc);
    for text in [&row.key, &row.type_text, &row.default, &row.range, &row.doc] {
        assert!(text.len() < 1_000 && !text.chars().any(char::is_control), "{text}");
    }
}

/// For every output of a generator of half-valid schemas and configs there is an answer, and it is printable.
#[test]
fn no_schema_or_config_panics() {
    let mut state = 7_u64;
    let mut draw = move |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).expect("31 bits") % below
    };
    let mut accepted = 0;
    for _ in 0..4_000 {
        let properties = json!({ "a": any_schema(&mut draw, 4), "b": any_schema(&mut draw, 3), "": any_schema(&mut draw, 2), "0": any_schema(&mut draw, 2) });
        let text = with_root_of(with(properties), "$defs", json!({ "A": any_schema(&mut draw, 2) })).to_string();
        let Ok(schema) = ConfigSchema::parse(&text) else { continue };
        accepted += 1;
        assert!(schema.table().len() <= SCHEMA_PROPERTIES_MAX);
        for _ in 0..5 {
            match schema.complete(any_object(&mut draw, 4), "p") {
                Ok(complete) => {
                    let again = schema.complete(complete.value.clone(), "p").expect("what is complete stays so");
                    assert_eq!(again, complete, "{text}");
                }
                Err(error) => {
                    let texts = error.hints.iter().chain([&error.message]);
                    texts.for_each(|text| assert!(!text.chars().any(char::is_control), "{text}"));
                }
            }
        }
    }
    assert!(accepted > 500, "{accepted} of 4000 were accepted");
}

fn any_value(draw: &mut impl FnMut(usize) -> usize, depth: usize) -> Value {
    match draw(if depth == 0 { 8 } else { 11 }) {
        0 => json!(null),
        1 => json!(true),
        2 => json!(0),
        3 => json!(-1.5),
        4 => json!(1e300),
        5 => json!("a"),
        6 => json!("\u{1b}\u{9b}"),
        7 => json!(u64::MAX),
        8 => any_object(draw, depth - 1),
        _ => (0..draw(4)).map(|_| any_value(draw, depth - 1)).collect(),
    }
}

fn any_object(draw: &mut impl FnMut(usize) -> usize, depth: usize) -> Value {
    let keys = ["a", "b", "", "0", "~/", "\u{7}"];
    Value::Object(
        (0..draw(4)).map(|_| (keys[draw(keys.len())].to_owned(), any_value(draw, depth.saturating_sub(1)))).collect(),
    )
}

fn any_schema(draw: &mut impl FnMut(usize) -> usize, depth: usize) -> Value {
    const TYPES: [&str; 7] = ["null", "boolean", "integer", "number", "string", "array", "object"];
    let mut schema = json!({});
    for _ in 0..=draw(3) {
        match draw(if depth == 0 { 9 } else { 20 }) {
            0 | 1 => schema["type"] = json!(TYPES[draw(7)]),
            2 => schema["type"] = json!([TYPES[draw(3)], TYPES[3 + draw(4)]]),
            3 => schema["enum"] = json!([any_value(draw, 1)]),
            4 => schema["default"] = any_value(draw, 2),
            5 => schema["minimum"] = json!(draw(3)),
            6 => schema["exclusiveMaximum"] = json!(1.5),
            7 => schema[["minItems", "maxItems", "minLength", "maxLength", "maxProperties"][draw(5)]] = json!(draw(3)),
            8 => schema["uniqueItems"] = json!(true),
            9 => schema["pattern"] = json!("^(a|b)*$"),
            10 => schema["items"] = any_schema(draw, depth - 1),
            11 => schema["prefixItems"] = json!([any_schema(draw, depth - 1), any_schema(draw, depth - 1)]),
            12 => {
                schema["properties"] = json!({ "a": any_schema(draw, depth - 1), "~/": any_schema(draw, depth - 1), "0": { "const": draw(2) } })
            }
            13 => schema["required"] = json!(["a"]),
            14 => {
                schema["additionalProperties"] = if draw(2) == 0 { json!(false) } else { any_schema(draw, depth - 1) }
            }
            15 => schema["$ref"] = json!("#/$defs/A"),
            16 => schema[["not", "contains", "propertyNames", "if", "then"][draw(5)]] = any_schema(draw, depth - 1),
            17 => schema["patternProperties"] = json!({ "^a": any_schema(draw, depth - 1) }),
            _ => {
                schema[["anyOf", "oneOf", "allOf"][draw(3)]] =
                    json!([any_schema(draw, depth - 1), any_schema(draw, depth - 1)])
            }
        }
    }
    schema
}
