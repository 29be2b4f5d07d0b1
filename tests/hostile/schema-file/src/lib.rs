//! Goal: make whoever reads the schema open a file.
//! Method: a `$ref` to it.

mischief::export_schema!(
    "schema-file",
    "A config schema that refers to a file",
    r#"{"type": "object", "additionalProperties": false, "properties": {"a": {"$ref": "file:///etc/passwd"}}}"#
);
