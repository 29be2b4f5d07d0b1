//! Goal: make whoever checks a config use an engine that can hang.
//! Method: a pattern with a back reference, which no linear engine has.

mischief::export_schema!(
    "schema-backtrack",
    "A config schema with a pattern that needs backtracking",
    r#"{"type": "object", "additionalProperties": false, "properties": {"a": {"type": "string", "pattern": "^(a+)\\1$"}}}"#
);
