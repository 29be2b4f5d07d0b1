//! Goal: a config nobody can read, and a schema that takes time and memory to compile.
//! Method: 10,000 properties, which make it longer than a schema may be.

mischief::export_schema!("schema-huge", "A config schema of ten thousand properties", {
    let properties: Vec<String> = (0..10_000).map(|n| format!(r#""key{n}": {{"type": "integer"}}"#)).collect();
    format!(r#"{{"type": "object", "additionalProperties": false, "properties": {{{}}}}}"#, properties.join(", "))
});
