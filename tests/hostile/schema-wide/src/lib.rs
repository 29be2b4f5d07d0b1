//! Goal: more properties than a schema may have, in a text that is short enough.
//! Method: 300 of them that say nothing.

mischief::export_schema!("schema-wide", "A short config schema of too many properties", {
    let properties: Vec<String> = (0..300).map(|n| format!(r#""k{n}": {{}}"#)).collect();
    format!(r#"{{"type": "object", "additionalProperties": false, "properties": {{{}}}}}"#, properties.join(", "))
});
