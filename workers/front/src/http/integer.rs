//! Integers as pydantic takes them.

use serde_json::value::RawValue;

/// What is wrong with a value that should be an integer: pydantic's name for it, and its words.
pub(super) type Wrong = (&'static str, &'static str);

const NOT_AN_INTEGER: Wrong = ("int_type", "Input should be a valid integer");
const FRACTION: Wrong =
    ("int_from_float", "Input should be a valid integer, got a number with a fractional part");
const TEXT: Wrong =
    ("int_parsing", "Input should be a valid integer, unable to parse string as an integer");
const SIZE: Wrong =
    ("int_parsing_size", "Unable to parse input string as an integer, exceeded maximum size");

/// Python reads no integers with more digits.
const DIGITS_MAX: usize = 4300;

/// The text of the JSON integer that pydantic makes of a JSON value: of whole floats, booleans and
/// strings of digits too.
pub(super) fn lax(raw: &RawValue) -> Result<String, Wrong> {
    let text = raw.get();
    match text.as_bytes().first() {
        Some(b't') => Ok("1".into()),
        Some(b'f') => Ok("0".into()),
        Some(b'"') => {
            let text: String = serde_json::from_str(text).map_err(|_| TEXT)?;
            of_text(&text).ok_or(TEXT)
        }
        Some(b'-' | b'0'..=b'9') if text.contains(['.', 'e', 'E']) => of_float(text),
        Some(b'-' | b'0'..=b'9') if text.len() > DIGITS_MAX => Err(SIZE),
        Some(b'-' | b'0'..=b'9') => Ok(if text == "-0" { "0" } else { text }.into()),
        _ => Err(NOT_AN_INTEGER),
    }
}

fn of_float(text: &str) -> Result<String, Wrong> {
    let number: f64 = text.parse().map_err(|_| NOT_AN_INTEGER)?;
    if number.fract() != 0.0 {
        Err(FRACTION)
    } else if number.abs() < 9_223_372_036_854_775_808.0 {
        Ok((number as i64).to_string())
    } else {
        Err(SIZE)
    }
}

fn of_text(text: &str) -> Option<String> {
    let text = text.trim();
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    let digits = match digits.split_once('.') {
        Some((whole, zeros)) if zeros.bytes().all(|zero| zero == b'0') => whole,
        Some(_) => return None,
        None => digits,
    };
    // Underscores may stand between digits, one at a time.
    let groups = digits.split('_');
    if digits.len() > DIGITS_MAX
        || groups
            .clone()
            .any(|group| group.is_empty() || !group.bytes().all(|digit| digit.is_ascii_digit()))
    {
        return None;
    }
    let digits: String = groups.collect();
    let digits = digits.trim_start_matches('0');
    Some(if digits.is_empty() { "0".into() } else { format!("{sign}{digits}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_pydantic_takes_is_taken() {
        for (value, expected) in [
            ("1", Ok("1")),
            ("-0", Ok("0")),
            ("1.0", Ok("1")),
            ("-2e3", Ok("-2000")),
            ("true", Ok("1")),
            ("1000000000000000000000000000000", Ok("1000000000000000000000000000000")),
            (r#"" 1 ""#, Ok("1")),
            (r#""+1""#, Ok("1")),
            (r#""-007""#, Ok("-7")),
            (r#""1.0""#, Ok("1")),
            (r#""1_000""#, Ok("1000")),
            ("1.5", Err(FRACTION)),
            ("1e19", Err(SIZE)),
            (r#""x""#, Err(TEXT)),
            (r#""""#, Err(TEXT)),
            (r#""1__0""#, Err(TEXT)),
            (r#""1.5""#, Err(TEXT)),
            ("null", Err(NOT_AN_INTEGER)),
            ("[1]", Err(NOT_AN_INTEGER)),
            ("{}", Err(NOT_AN_INTEGER)),
        ] {
            let raw: &RawValue = serde_json::from_str(value).unwrap();
            assert_eq!(lax(raw).as_deref(), expected.as_deref(), "{value}");
        }
    }
}
