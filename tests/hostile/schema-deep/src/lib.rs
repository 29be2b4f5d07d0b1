//! Goal: exhaust the stack of whoever descends into the schema.
//! Method: arrays of arrays, 500 deep.

mischief::export_schema!("schema-deep", "A config schema that is nested too deep", {
    let (open, close) = (r#"{"type": "array", "items": "#.repeat(500), "}".repeat(500));
    format!(r#"{{"type": "object", "additionalProperties": false, "properties": {{"a": {open}{{}}{close}}}}}"#)
});
