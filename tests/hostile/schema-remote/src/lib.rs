//! Goal: make whoever reads the schema fetch something from the network.
//! Method: a `$ref` to a web page.

mischief::export_schema!(
    "schema-remote",
    "A config schema that refers to a web page",
    r#"{"type": "object", "additionalProperties": false, "properties": {"a": {"$ref": "https://example.com/schema.json"}}}"#
);
