//! Goal: make whoever follows references follow them for ever.
//! Method: two definitions that refer to each other.

mischief::export_schema!(
    "schema-recursive",
    "A config schema that refers to itself",
    r##"{"type": "object", "additionalProperties": false, "properties": {"a": {"$ref": "#/$defs/a"}},
    "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"type": "array", "items": {"$ref": "#/$defs/a"}}}}"##
);
