//! Where two JSON texts part.

use serde_json::Value;

/// The JSON pointer (RFC 6901) of the first place in which two JSON texts differ, in the order of the
/// first one's keys, and what stands there in each; `null` for a place that one of them lacks. `None` if
/// one is no JSON, or they differ in how they are written only.
#[must_use]
pub fn pointer_between(one: &str, other: &str) -> Option<(String, Value, Value)> {
    let one: Value = serde_json::from_str(one).ok()?;
    let other: Value = serde_json::from_str(other).ok()?;
    let mut path = String::new();
    let (was, is) = parted(&one, &other, &mut path)?;
    Some((path, was, is))
}

fn parted(one: &Value, other: &Value, path: &mut String) -> Option<(Value, Value)> {
    let length = path.len();
    let mut below = |key: &str, one: &Value, other: &Value| {
        path.push('/');
        path.push_str(&key.replace('~', "~0").replace('/', "~1"));
        let found = parted(one, other, path);
        if found.is_none() {
            path.truncate(length);
        }
        found
    };
    match (one, other) {
        (Value::Object(ones), Value::Object(others)) => {
            let in_one = ones.iter().map(|(key, it)| (key, it, others.get(key)));
            let missing = others.iter().filter(|(key, _)| !ones.contains_key(*key));
            for (key, it, other) in in_one {
                if let Some(found) = below(key, it, other.unwrap_or(&Value::Null)) {
                    return Some(found);
                }
            }
            for (key, other) in missing {
                if let Some(found) = below(key, &Value::Null, other) {
                    return Some(found);
                }
            }
            None
        }
        (Value::Array(ones), Value::Array(others)) => {
            for index in 0..ones.len().max(others.len()) {
                let at = |array: &[Value]| array.get(index).cloned().unwrap_or(Value::Null);
                if let Some(found) = below(&index.to_string(), &at(ones), &at(others)) {
                    return Some(found);
                }
            }
            None
        }
        _ => (one != other).then(|| (one.clone(), other.clone())),
    }
}

/// A JSON text without what stands at these pointers, as a value; `None` if it is no JSON.
pub(crate) fn without(text: &str, pointers: &[String]) -> Option<Value> {
    let mut value: Value = serde_json::from_str(text).ok()?;
    for pointer in pointers {
        if pointer.is_empty() {
            return Some(Value::Null);
        }
        let Some((parent, key)) = pointer.rsplit_once('/') else { continue };
        let key = key.replace("~1", "/").replace("~0", "~");
        match value.pointer_mut(parent) {
            Some(Value::Object(object)) => {
                object.remove(&key);
            }
            Some(Value::Array(array)) => {
                if let Some(it) = key.parse::<usize>().ok().and_then(|index| array.get_mut(index)) {
                    *it = Value::Null;
                }
            }
            _ => {}
        }
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn at(one: &str, other: &str) -> Option<String> {
        pointer_between(one, other).map(|(path, _, _)| path)
    }

    #[test]
    fn the_first_difference_has_a_pointer() {
        assert_eq!(at(r#"{"a":1,"b":[1,2]}"#, r#"{"a":1,"b":[1,3]}"#).unwrap(), "/b/1");
        assert_eq!(at(r#"{"a/b":1}"#, r#"{"a/b":2}"#).unwrap(), "/a~1b");
        assert_eq!(at("{}", r#"{"x":1}"#).unwrap(), "/x");
        assert_eq!(at("[1]", "[1,2]").unwrap(), "/1");
        assert_eq!(at("1", "1.0").unwrap(), "");
        assert_eq!(at("{ }", "{}"), None);
        assert_eq!(at("{", "{}"), None);
        let (_, was, is) = pointer_between(r#"{"a":{"b":1}}"#, r#"{"a":{}}"#).unwrap();
        assert_eq!((was, is), (json!(1), json!(null)));
    }

    #[test]
    fn what_is_ignored_is_left_out() {
        let pointers = ["/pid".to_owned(), "/a/0".to_owned(), "/no/such".to_owned()];
        let left = without(r#"{"pid":3,"a":[1,2]}"#, &pointers).unwrap();
        assert_eq!(left, json!({"a": [null, 2]}));
    }
}
