//! Where two answers differ, and whether only in what may.

use serde_json::Value;

/// The most differences that are listed.
const LISTED_MAX: usize = 64;
/// Words within a key that say that its value names or dates something.
const VOLATILE: [&str; 22] = [
    "id",
    "ids",
    "uuid",
    "guid",
    "time",
    "timestamp",
    "date",
    "datetime",
    "duration",
    "elapsed",
    "latency",
    "ms",
    "pid",
    "port",
    "host",
    "hostname",
    "session",
    "created",
    "updated",
    "started",
    "nonce",
    "thread",
];

/// One place in which two values differ.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Difference {
    /// Where: a JSON pointer.
    pub(crate) pointer: String,
    pub(crate) one: Value,
    pub(crate) other: Value,
}

impl Difference {
    /// Whether this looks like an id or a time: by its key, or by both values.
    pub(crate) fn is_volatile(&self) -> bool {
        let key = self
            .pointer
            .rsplit('/')
            .find(|part| part.parse::<usize>().is_err())
            .unwrap_or_default();
        let is_scalar = |value: &Value| !value.is_object() && !value.is_array();
        is_scalar(&self.one)
            && is_scalar(&self.other)
            && (words(key).any(|word| VOLATILE.contains(&word.as_str()))
                || names_or_dates(&self.one) && names_or_dates(&self.other))
    }

    /// For people.
    pub(crate) fn told(&self) -> String {
        let short = |value: &Value| {
            let text = value.to_string();
            if text.chars().count() > 60 {
                text.chars().take(60).chain(['…']).collect()
            } else {
                text
            }
        };
        format!("{}: {} and {}", self.pointer, short(&self.one), short(&self.other))
    }
}

/// The words of a key in the form of `snake_case`, `kebab-case` or `camelCase`, in lower case.
fn words(key: &str) -> impl Iterator<Item = String> {
    let mut spaced = String::new();
    let mut was_lower = false;
    for character in key.chars() {
        if character.is_uppercase() && was_lower {
            spaced.push(' ');
        }
        was_lower = character.is_lowercase();
        spaced.extend(character.to_lowercase());
    }
    let words: Vec<String> = spaced
        .split(|character: char| !character.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect();
    words.into_iter()
}

/// A UUID, a long hexadecimal number, a date of ISO 8601, or seconds since 1970 in this century.
fn names_or_dates(value: &Value) -> bool {
    match value {
        Value::String(text) => {
            let is_hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
            let is_uuid = text.len() == 36
                && text.split('-').map(str::len).eq([8, 4, 4, 4, 12])
                && text.split('-').all(is_hex);
            let bytes = text.as_bytes();
            let is_date = bytes.len() >= 10
                && bytes[..4].iter().all(u8::is_ascii_digit)
                && bytes[4] == b'-'
                && bytes[7] == b'-'
                && text.starts_with("20");
            is_uuid || is_date || text.len() >= 16 && is_hex(text)
        }
        Value::Number(number) => number.as_f64().is_some_and(|it| {
            [1.0, 1e3, 1e6, 1e9].iter().any(|unit| (1.6e9 * unit..4.1e9 * unit).contains(&it))
        }),
        _ => false,
    }
}

/// The first places in which two values differ.
pub(crate) fn differences(one: &Value, other: &Value) -> Vec<Difference> {
    let mut found = Vec::new();
    compare(one, other, &mut String::new(), &mut found);
    found
}

fn compare(one: &Value, other: &Value, pointer: &mut String, found: &mut Vec<Difference>) {
    if one == other || found.len() >= LISTED_MAX {
        return;
    }
    let length = pointer.len();
    match (one, other) {
        (Value::Object(one), Value::Object(other)) => {
            let mut keys: Vec<&String> = one.keys().chain(other.keys()).collect();
            keys.sort_unstable();
            keys.dedup();
            for key in keys {
                pointer.push('/');
                pointer.push_str(&key.replace('~', "~0").replace('/', "~1"));
                let null = &Value::Null;
                compare(
                    one.get(key).unwrap_or(null),
                    other.get(key).unwrap_or(null),
                    pointer,
                    found,
                );
                pointer.truncate(length);
            }
        }
        (Value::Array(one), Value::Array(other)) => {
            for (index, (one, other)) in one.iter().zip(other).enumerate() {
                pointer.push_str(&format!("/{index}"));
                compare(one, other, pointer, found);
                pointer.truncate(length);
            }
            if one.len() != other.len() && found.len() < LISTED_MAX {
                let items = |list: &[Value]| Value::from(format!("{} items", list.len()));
                let (one, other) = (items(one), items(other));
                found.push(Difference { pointer: pointer.clone(), one, other });
            }
        }
        _ => found.push(Difference {
            pointer: pointer.clone(),
            one: one.clone(),
            other: other.clone(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn volatile(one: &Value, other: &Value) -> bool {
        let found = differences(one, other);
        assert!(!found.is_empty());
        found.iter().all(Difference::is_volatile)
    }

    #[test]
    fn ids_and_times_are_told_from_what_matters() {
        assert!(volatile(&json!({"episode_id": "a"}), &json!({"episode_id": "b"})));
        assert!(volatile(&json!({"startedAt": 1}), &json!({"startedAt": 2})));
        assert!(volatile(&json!({"pid": 1, "x": [0]}), &json!({"pid": 2, "x": [0]})));
        assert!(volatile(&json!({"x": 1.76e9}), &json!({"x": 1.761e9})));
        assert!(volatile(
            &json!({"x": "c0ffee00-0000-4000-8000-000000000000"}),
            &json!({"x": "c0ffee00-0000-4000-8000-000000000001"})
        ));
        assert!(!volatile(&json!({"board": [0, 1]}), &json!({"board": [1, 0]})));
        assert!(!volatile(&json!({"grid": 1}), &json!({"grid": 2})), "`grid` is not `id`");
        assert!(!volatile(&json!({"hint": "2"}), &json!({})));
        assert!(!volatile(&json!({"at": 1}), &json!({"at": 2})), "a place");
    }

    #[test]
    fn differences_have_pointers() {
        let found = differences(&json!({"a/b": [1, {"c": 2}]}), &json!({"a/b": [1, {"c": 3}]}));
        assert_eq!(found[0].pointer, "/a~1b/1/c");
        assert!(found[0].told().contains("2 and 3"));
        assert_eq!(differences(&json!(1), &json!(1)), []);
        let found = differences(&json!([1, 2]), &json!([1]));
        assert!(found[0].told().contains("2 items"), "{found:?}");
    }
}
