//! What `xgrammar` cannot hold a text to. It would leave it out without a word, so that vLLM's frontend looks
//! for it, and takes another grammar there; here it is refused.

use serde_json::{Map, Value};

use crate::JsonSchema;

/// Formats of strings that it knows.
const FORMATS: [&str; 14] = [
    "email",
    "date",
    "time",
    "date-time",
    "duration",
    "ipv4",
    "ipv6",
    "hostname",
    "uuid",
    "uri",
    "uri-reference",
    "uri-template",
    "json-pointer",
    "relative-json-pointer",
];

/// The first thing in a schema that it does not know.
pub(super) fn beyond(schema: &JsonSchema) -> Option<&'static str> {
    let schema: Value = serde_json::from_str(schema.as_str()).ok()?;
    schema.as_object().and_then(beyond_object)
}

fn beyond_object(schema: &Map<String, Value>) -> Option<&'static str> {
    let has = |name: &str| schema.contains_key(name);
    let is = |name: &str| match schema.get("type") {
        Some(Value::String(only)) => only == name,
        Some(Value::Array(several)) => several.iter().any(|it| it == name),
        _ => false,
    };
    if (is("integer") || is("number")) && has("multipleOf") {
        return Some("multipleOf");
    }
    let counted = ["uniqueItems", "contains", "minContains", "maxContains"];
    if is("array")
        && let Some(name) = counted.into_iter().find(|it| has(it))
    {
        return Some(name);
    }
    if is("string") {
        let format = schema.get("format").map(|it| it.as_str().unwrap_or_default());
        if format.is_some_and(|it| !FORMATS.contains(&it)) {
            return Some("a format that it does not know");
        }
        if is_bounded_pattern(schema) {
            return Some("a pattern or format beside minLength or maxLength");
        }
    }
    let patterns = schema.get("patternProperties");
    if is("object")
        && let Some(names) = schema.get("propertyNames")
    {
        let unevaluated = schema.get("unevaluatedProperties").is_some_and(|it| *it != true);
        let bounded = names.as_object().is_some_and(is_bounded_pattern);
        if bounded || patterns.is_some() || has("properties") || unevaluated {
            return Some("propertyNames beside others");
        }
    }
    if is("object")
        && let Some(Value::Object(patterns)) = patterns
        && (has("properties") || patterns.len() > 1)
    {
        return Some("patternProperties beside others");
    }
    if schema.get("allOf").and_then(Value::as_array).is_some_and(|it| it.len() > 1) {
        return Some("allOf of several");
    }
    schema.values().find_map(|value| match value {
        Value::Object(inner) => beyond_object(inner),
        Value::Array(items) => items.iter().filter_map(Value::as_object).find_map(beyond_object),
        _ => None,
    })
}

fn is_bounded_pattern(schema: &Map<String, Value>) -> bool {
    let any = |names: [&str; 2]| names.iter().any(|it| schema.contains_key(*it));
    any(["pattern", "format"]) && any(["minLength", "maxLength"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_be_left_out_is_found_however_deep_it_is() {
        let of = |text: &str| beyond(&JsonSchema::new(text).unwrap());
        for known in [
            r#"{"type":"object","properties":{"multipleOf":{"type":"string","format":"date"}}}"#,
            r#"{"type":"string","minLength":2}"#,
            r#"{"allOf":[{"type":"string"}]}"#,
            r#"{"type":"object","patternProperties":{"a":{}}}"#,
        ] {
            assert_eq!(of(known), None, "{known}");
        }
        for unknown in [
            r#"{"anyOf":[{"type":["null","number"],"multipleOf":2}]}"#,
            r#"{"properties":{"a":{"type":"array","uniqueItems":true}}}"#,
            r#"{"type":"string","format":"regex"}"#,
            r#"{"type":"string","pattern":"a","maxLength":2}"#,
            r#"{"type":"object","propertyNames":{},"properties":{}}"#,
            r#"{"type":"object","patternProperties":{"a":{},"b":{}}}"#,
            r#"{"allOf":[{},{}]}"#,
        ] {
            assert!(of(unknown).is_some(), "{unknown}");
        }
    }
}
