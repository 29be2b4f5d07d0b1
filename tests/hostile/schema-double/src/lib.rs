//! Goal: a short schema that is a million long once its references are replaced.
//! Method: five definitions, each of which has the next one sixteen times.

mischief::export_schema!("schema-double", "A config schema that multiplies with every reference", {
    let definition = |n: u32| {
        let next = vec![format!(r##"{{"$ref": "#/$defs/d{}"}}"##, n + 1); 16];
        format!(r#""d{n}": {{"prefixItems": [{}]}}"#, next.join(", "))
    };
    let definitions: Vec<String> = (0..5).map(definition).collect();
    format!(
        r##"{{"type": "object", "additionalProperties": false, "properties": {{"a": {{"$ref": "#/$defs/d0"}}}},
            "$defs": {{{}, "d5": {{"type": "integer"}}}}}}"##,
        definitions.join(", ")
    )
});
