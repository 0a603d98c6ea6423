//! What Python writes differently than the template engine would: truth values, floats, containers and
//! JSON.

use std::fmt::Write as _;

use minijinja::value::{Kwargs, ValueKind, from_args};
use minijinja::{Error, ErrorKind, Output, State, Value};

/// Methods of strings, lists and dictionaries.
pub(super) fn method(
    state: &mut State<'_, '_>,
    value: &Value,
    name: &str,
    arguments: &[Value],
) -> Result<Value, Error> {
    if let Some(text) = value.as_str()
        && let Some(result) = text_method(text, name, arguments)
    {
        return result;
    }
    minijinja_contrib::pycompat::unknown_method_callback(state, value, name, arguments)
}

/// The methods of strings that the engine's own list lacks.
fn text_method(text: &str, name: &str, arguments: &[Value]) -> Option<Result<Value, Error>> {
    let part = arguments.first().and_then(Value::as_str);
    let three = |(a, b, c): (&str, &str, &str)| [a, b, c].into_iter().collect::<Value>();
    Some(Ok(match (name, part) {
        ("removeprefix", Some(prefix)) => text.strip_prefix(prefix).unwrap_or(text).into(),
        ("removesuffix", Some(suffix)) => text.strip_suffix(suffix).unwrap_or(text).into(),
        ("partition", Some(at)) => {
            three(text.split_once(at).map_or((text, "", ""), |(a, b)| (a, at, b)))
        }
        ("rpartition", Some(at)) => {
            three(text.rsplit_once(at).map_or(("", "", text), |(a, b)| (a, at, b)))
        }
        ("index", Some(part)) => match text.find(part) {
            Some(at) => text[..at].chars().count().into(),
            None => {
                return Some(Err(Error::new(ErrorKind::InvalidOperation, "substring not found")));
            }
        },
        ("rsplit", _) => return Some(rsplit(text, arguments)),
        _ => return None,
    }))
}

fn rsplit(text: &str, arguments: &[Value]) -> Result<Value, Error> {
    let (at, limit, options): (Option<&str>, Option<i64>, Kwargs) = from_args(arguments)?;
    let limit = match limit {
        Some(limit) => Some(limit),
        None => options.get("maxsplit")?,
    };
    let limit = limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
    let mut rest = text;
    let mut parts = Vec::new();
    while parts.len() < limit {
        let split = match at {
            Some(at) => rest.rsplit_once(at),
            None => {
                rest = rest.trim_end();
                rest.rsplit_once(char::is_whitespace)
            }
        };
        let Some((before, part)) = split else { break };
        parts.push(part);
        rest = before;
    }
    if at.is_none() {
        rest = rest.trim();
    }
    if at.is_some() || !rest.is_empty() {
        parts.push(rest);
    }
    parts.reverse();
    Ok(parts.into_iter().collect())
}

/// What `{{ value }}` writes: Python's `str`.
pub(super) fn write(
    out: &mut Output<'_>,
    _: &mut State<'_, '_>,
    value: &Value,
) -> Result<(), Error> {
    match value.as_str() {
        Some(text) => out.write_str(text)?,
        None => out.write_str(&to_text(value))?,
    }
    Ok(())
}

/// Python's `str`.
pub(super) fn to_text(value: &Value) -> String {
    match value.as_str() {
        Some(text) => text.to_owned(),
        None if value.is_undefined() => String::new(),
        None => {
            let mut out = String::new();
            write_repr(&mut out, value);
            out
        }
    }
}

/// Python's `None` cannot be iterated over; a text can.
pub(super) fn is_iterable(value: &Value) -> bool {
    value.as_str().is_some() || (!value.is_none() && value.try_iter().is_ok())
}

/// What has a length and items.
pub(super) fn is_sequence(value: &Value) -> bool {
    matches!(value.kind(), ValueKind::String | ValueKind::Seq | ValueKind::Map)
}

fn write_repr(out: &mut String, value: &Value) {
    match value.kind() {
        ValueKind::None => out.push_str("None"),
        ValueKind::Bool => out.push_str(if value.is_true() { "True" } else { "False" }),
        ValueKind::Number => write_number(out, value, ["inf", "-inf", "nan"]),
        ValueKind::String => write_quoted(out, value.as_str().unwrap_or_default()),
        ValueKind::Seq if value.is_tuple() => {
            write_items(out, value, ["(", ")"]);
        }
        ValueKind::Seq => write_items(out, value, ["[", "]"]),
        ValueKind::Map => {
            out.push('{');
            for (index, (key, item)) in pairs(value).enumerate() {
                if index > 0 {
                    out.push_str(", ");
                }
                write_repr(out, &key);
                out.push_str(": ");
                write_repr(out, &item);
            }
            out.push('}');
        }
        _ => {
            let _ = write!(out, "{value}");
        }
    }
}

fn write_items(out: &mut String, value: &Value, [open, close]: [&str; 2]) {
    out.push_str(open);
    let mut count = 0;
    for item in value.try_iter().into_iter().flatten() {
        if count > 0 {
            out.push_str(", ");
        }
        write_repr(out, &item);
        count += 1;
    }
    if count == 1 && value.is_tuple() {
        out.push(',');
    }
    out.push_str(close);
}

fn pairs(value: &Value) -> impl Iterator<Item = (Value, Value)> {
    value.try_iter().into_iter().flatten().map(|key| {
        let item = value.get_item(&key).unwrap_or_default();
        (key, item)
    })
}

/// A text as Python's `repr` has it: in single quotes, unless it has those and no double ones.
fn write_quoted(out: &mut String, text: &str) {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.push(quote);
    for char in text.chars() {
        match char {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\\' => out.push_str("\\\\"),
            char if char == quote => {
                out.push('\\');
                out.push(char);
            }
            char if (char as u32) < 0x20 || char as u32 == 0x7f => {
                let _ = write!(out, "\\x{:02x}", char as u32);
            }
            char => out.push(char),
        }
    }
    out.push(quote);
}

fn write_number(out: &mut String, value: &Value, [inf, minus_inf, nan]: [&str; 3]) {
    if value.is_integer() {
        let _ = write!(out, "{value}");
        return;
    }
    match f64::try_from(value.clone()) {
        Ok(number) if number.is_nan() => out.push_str(nan),
        Ok(number) if number.is_infinite() => {
            out.push_str(if number > 0.0 { inf } else { minus_inf });
        }
        Ok(number) => write_float(out, number),
        Err(_) => {
            let _ = write!(out, "{value}");
        }
    }
}

/// The shortest digits that denote the number, in Python's layout.
fn write_float(out: &mut String, number: f64) {
    let scientific = format!("{number:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..16).contains(&exponent) {
        // Rust's `{:?}` has the same digits, and a fraction always; beyond 16 digits it would not.
        let _ = write!(out, "{number}");
        if exponent >= 0 && number.fract() == 0.0 {
            out.push_str(".0");
        }
    } else {
        let sign = if exponent < 0 { '-' } else { '+' };
        let _ = write!(out, "{mantissa}e{sign}{:02}", exponent.abs());
    }
}

/// The filter `tojson` as transformers has it: not escaped for HTML, and not for ASCII either.
#[expect(clippy::needless_pass_by_value, reason = "filters are given their arguments so")]
pub(super) fn to_json_filter(value: &Value, options: Kwargs) -> Result<String, Error> {
    let layout = Layout {
        ascii: options.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false),
        indent: options.get("indent")?,
        separators: options.get("separators")?,
        sort: options.get::<Option<bool>>("sort_keys")?.unwrap_or(false),
    };
    options.assert_all_used()?;
    let mut out = String::new();
    layout.write(&mut out, value, 0)?;
    Ok(out)
}

/// How `json.dumps` lays it out.
struct Layout {
    ascii: bool,
    indent: Option<usize>,
    separators: Option<Vec<String>>,
    sort: bool,
}

impl Layout {
    fn write(&self, out: &mut String, value: &Value, depth: usize) -> Result<(), Error> {
        match value.kind() {
            ValueKind::None => out.push_str("null"),
            ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => write_number(out, value, ["Infinity", "-Infinity", "NaN"]),
            ValueKind::String => self.write_text(out, value.as_str().unwrap_or_default()),
            ValueKind::Seq | ValueKind::Iterable => {
                let items = value.try_iter()?;
                self.write_all(out, ['[', ']'], items, depth, |out, item| {
                    self.write(out, &item, depth + 1)
                })?;
            }
            ValueKind::Map => {
                let mut items: Vec<_> = pairs(value).collect();
                if self.sort {
                    items.sort_by(|a, b| a.0.cmp(&b.0));
                }
                self.write_all(out, ['{', '}'], items.into_iter(), depth, |out, (key, item)| {
                    match key.kind() {
                        ValueKind::String => self.write_text(out, key.as_str().unwrap_or_default()),
                        _ => {
                            let mut text = String::new();
                            self.write(&mut text, &key, 0)?;
                            self.write_text(out, &text);
                        }
                    }
                    out.push_str(
                        self.separators.as_ref().and_then(|s| s.get(1)).map_or(": ", |s| s),
                    );
                    self.write(out, &item, depth + 1)
                })?;
            }
            kind => {
                let what = format!("{kind} has no JSON form");
                return Err(Error::new(ErrorKind::BadSerialization, what));
            }
        }
        Ok(())
    }

    fn write_all<T>(
        &self,
        out: &mut String,
        [open, close]: [char; 2],
        items: impl Iterator<Item = T>,
        depth: usize,
        mut write: impl FnMut(&mut String, T) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let between = match &self.separators {
            Some(separators) => separators.first().map_or(", ", |s| s),
            None if self.indent.is_some() => ",",
            None => ", ",
        };
        let line = |out: &mut String, depth: usize| {
            if let Some(indent) = self.indent {
                out.push('\n');
                out.extend(std::iter::repeat_n(' ', indent * depth));
            }
        };
        out.push(open);
        let mut is_empty = true;
        for item in items {
            if !is_empty {
                out.push_str(between);
            }
            is_empty = false;
            line(out, depth + 1);
            write(out, item)?;
        }
        if !is_empty {
            line(out, depth);
        }
        out.push(close);
        Ok(())
    }

    fn write_text(&self, out: &mut String, text: &str) {
        // A text always has a JSON form.
        let quoted = serde_json::to_string(text).unwrap_or_default();
        if !self.ascii {
            out.push_str(&quoted);
            return;
        }
        for char in quoted.chars() {
            if char.is_ascii() {
                out.push(char);
            } else {
                for unit in char.encode_utf16(&mut [0; 2]) {
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
        }
    }
}
