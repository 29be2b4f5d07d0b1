//! Goal: a description that cannot be read.
//! Method: TypeScript where JSON Schema is due.

mischief::export_schema!("schema-notjson", "A config schema that is no JSON", "interface Config { gravity?: number }");
