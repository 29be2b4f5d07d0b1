//! Goal: a config in which a misspelt key goes unnoticed.
//! Method: a schema without `"additionalProperties": false`.

mischief::export_schema!(
    "schema-open",
    "A config schema that allows unknown keys",
    r#"{"type": "object", "properties": {"gravity": {"type": "number", "default": 9.8}}}"#
);
