//! Reading small JSON objects field by field, with pydantic's lax coercions, and writing numbers.

use std::{borrow::Cow, fmt, io::Write as _};

use serde::{
    Deserialize,
    de::{Deserializer, MapAccess, Visitor},
};
use serde_json::value::RawValue;

use crate::Invalid;

/// Calls `field` with each key and value text of the JSON object in `text`. Empty text is an empty
/// object.
pub(crate) fn object<'a>(
    text: &'a [u8],
    mut field: impl FnMut(&str, &'a str, &mut Invalid),
) -> Result<(), Invalid> {
    let mut invalid = Invalid::default();
    if text.is_empty() {
        return Ok(());
    }
    let Ok(text) = std::str::from_utf8(text) else {
        invalid.push("json_invalid", "", "Invalid JSON: not UTF-8", "");
        return Err(invalid);
    };
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let each = |key: &str, value: &'a str| field(key, value, &mut invalid);
    let read = deserializer.deserialize_map(Object(each)).and_then(|()| deserializer.end());
    if let Err(error) = read {
        if error.is_data() {
            invalid.push("dict_type", "", "Input should be a valid dictionary", text);
        } else {
            invalid.push("json_invalid", "", format!("Invalid JSON: {error}"), "");
        }
    }
    invalid.or(())
}

struct Object<F>(F);

impl<'de, F: FnMut(&str, &'de str)> Visitor<'de> for Object<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(Key(key)) = map.next_key()? {
            let value: &'de RawValue = map.next_value()?;
            (self.0)(&key, value.get());
        }
        Ok(())
    }
}

#[derive(Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

/// Refuses a key that is no field.
pub(crate) fn extra(key: &str, value: &str, invalid: &mut Invalid) {
    invalid.push("extra_forbidden", key, "Extra inputs are not permitted", value);
}

/// What an object without a required field is told.
pub(crate) fn missing(field: &str, object: &[u8]) -> Invalid {
    let mut invalid = Invalid::default();
    let input = std::str::from_utf8(object).unwrap_or_default();
    invalid.push("missing", field, "Field required", input);
    invalid
}

/// Checks a `metadata` field, which every OpenEnv action may carry: any object.
pub(crate) fn metadata(value: &str, invalid: &mut Invalid) {
    if !value.starts_with('{') {
        invalid.push("dict_type", "metadata", "Input should be a valid dictionary", value);
    }
}

/// An integer: also `1.0`, `"1"` and `true`, as pydantic takes them.
pub(crate) fn integer(field: &str, value: &str, invalid: &mut Invalid) -> Option<i64> {
    let text = unquoted(value);
    let digits = text.as_deref().unwrap_or(value).trim();
    match digits {
        _ if digits.len() > 64 => {}
        "true" if text.is_none() => return Some(1),
        "false" if text.is_none() => return Some(0),
        _ => {
            if let Ok(integer) = digits.parse() {
                return Some(integer);
            }
            if let Ok(number) = digits.parse::<f64>() {
                // Exactly representable, so the comparison is meant.
                #[allow(clippy::float_cmp)]
                if number.trunc() == number && number.abs() < 9.0e15 {
                    return Some(number as i64);
                }
                if number.is_finite() && text.is_none() && number.abs() < 9.0e15 {
                    let message =
                        "Input should be a valid integer, got a number with a fractional part";
                    invalid.push("int_from_float", field, message, value);
                    return None;
                }
            }
        }
    }
    if text.is_some() {
        let message = "Input should be a valid integer, unable to parse string as an integer";
        invalid.push("int_parsing", field, message, value);
    } else {
        invalid.push("int_type", field, "Input should be a valid integer", value);
    }
    None
}

/// A string.
pub(crate) fn string(field: &str, value: &str, invalid: &mut Invalid) -> Option<String> {
    let text = unquoted(value);
    if text.is_none() {
        invalid.push("string_type", field, "Input should be a valid string", value);
    }
    text
}

/// The content of a JSON string; `None` if the value is none.
fn unquoted(value: &str) -> Option<String> {
    if !value.starts_with('"') {
        return None;
    }
    serde_json::from_str(value).ok()
}

/// A seed as OpenEnv's clients send it: any integer (negative ones wrap), or `null` for none.
/// Anything else is no seed, as on servers that accept and drop it.
pub(crate) fn seed(value: &str) -> Option<u64> {
    integer("seed", value, &mut Invalid::default())
        .map(|seed| seed as u64)
        .or_else(|| value.parse().ok())
}

/// Appends a number as JSON; what is not finite becomes `null`.
pub(crate) fn write_f64(number: f64, out: &mut Vec<u8>) {
    // Writing to a Vec cannot fail.
    let _ = serde_json::to_writer(out, &number);
}

/// Appends a number as JSON, in the fewest digits that read back as the same `f32`; what is not
/// finite becomes `null`.
pub(crate) fn write_f32(number: f32, out: &mut Vec<u8>) {
    let _ = serde_json::to_writer(out, &number);
}

/// Appends a string as JSON.
pub(crate) fn write_str(text: &str, out: &mut Vec<u8>) {
    let _ = serde_json::to_writer(out, text);
}

/// Appends an integer as JSON.
pub(crate) fn write_u64(number: u64, out: &mut Vec<u8>) {
    let _ = write!(out, "{number}");
}
