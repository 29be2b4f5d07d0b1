//! Goal: make whoever checks a config hang: a backtracking engine takes time exponential in the text's length.
//! Method: the pattern `^(a+)+$`, and a config `a` of many a's and an exclamation mark. A linear engine just says no.

mischief::export_schema!(
    "schema-regex",
    "A config schema with a pattern that makes backtracking engines hang",
    r#"{"type": "object", "additionalProperties": false, "properties": {
    "a": {"type": "string", "default": "aaaa", "pattern": "^(a+)+$"}}}"#
);
