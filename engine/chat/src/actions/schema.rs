//! As much of JSON Schema as an action needs: types, what is required, and enumerations.

use serde_json::Value;

/// How deep schemas are followed.
const DEPTH: usize = 16;

/// Says what is wrong with a value.
pub(super) fn check(schema: &Value, value: &Value) -> Result<(), String> {
    check_at(schema, value, "the object", DEPTH)
}

fn check_at(schema: &Value, value: &Value, place: &str, depth: usize) -> Result<(), String> {
    let Some(schema) = schema.as_object().filter(|_| depth > 0) else { return Ok(()) };
    let types = types(schema.get("type"));
    if !types.is_empty() && !types.iter().any(|kind| is(kind, value)) {
        return Err(format!("{place} must be of type {}", types.join(" or ")));
    }
    if let Some(Value::Array(allowed)) = schema.get("enum")
        && !allowed.contains(value)
    {
        return Err(format!("{place} must be one of {}", Value::Array(allowed.clone())));
    }
    if let Value::Object(fields) = value {
        for name in schema.get("required").and_then(Value::as_array).into_iter().flatten() {
            if let Some(name) = name.as_str().filter(|name| !fields.contains_key(*name)) {
                return Err(format!("{place} lacks the field {name:?}"));
            }
        }
        for (name, schema) in
            schema.get("properties").and_then(Value::as_object).into_iter().flatten()
        {
            if let Some(value) = fields.get(name) {
                check_at(schema, value, name, depth - 1)?;
            }
        }
    }
    if let (Value::Array(items), Some(schema)) = (value, schema.get("items")) {
        for item in items {
            check_at(schema, item, &format!("an item of {place}"), depth - 1)?;
        }
    }
    Ok(())
}

/// A schema's type is one or several.
pub(super) fn types(kind: Option<&Value>) -> Vec<&str> {
    match kind {
        Some(Value::String(kind)) => vec![kind],
        Some(Value::Array(kinds)) => kinds.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

fn is(kind: &str, value: &Value) -> bool {
    match kind {
        "string" => value.is_string(),
        "number" => value.is_number(),
        "integer" => {
            value.is_i64()
                || value.is_u64()
                || value.as_f64().is_some_and(|n| n.fract().abs() < f64::MIN_POSITIVE)
        }
        "boolean" => value.is_boolean(),
        "object" => value.is_object(),
        "array" => value.is_array(),
        "null" => value.is_null(),
        _ => true,
    }
}

/// A text as a value of one of the types; texts come last, because every text is one.
pub(super) fn convert(kinds: &[&str], text: &str) -> Option<Value> {
    let bare = text.trim();
    let typed = kinds.iter().find_map(|kind| match *kind {
        "integer" => bare.parse::<i64>().ok().map(Value::from),
        "number" => number(bare),
        "boolean" => boolean(bare),
        "null" => matches!(bare, "null" | "None").then_some(Value::Null),
        "object" => serde_json::from_str(bare).ok().filter(Value::is_object),
        "array" => serde_json::from_str(bare).ok().filter(Value::is_array),
        _ => None,
    });
    let is_text = kinds.is_empty() || kinds.contains(&"string");
    typed.or_else(|| is_text.then(|| Value::from(text)))
}

/// A number: whole ones stay whole.
pub(super) fn number(text: &str) -> Option<Value> {
    if let Ok(whole) = text.parse::<i64>() {
        return Some(whole.into());
    }
    let number: f64 = text.parse().ok()?;
    serde_json::Number::from_f64(number).map(Value::Number)
}

/// A truth value, as JSON or Python write it.
pub(super) fn boolean(text: &str) -> Option<Value> {
    match text {
        "true" | "True" => Some(true.into()),
        "false" | "False" => Some(false.into()),
        _ => None,
    }
}
