//! What an environment is reset with: several JSON objects in one.

use std::{collections::HashMap, fmt};

use bytes::Bytes;
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

use crate::json_text;

/// The parameters of one reset.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResetParameters {
    /// The text of one JSON object, in which no key comes twice; empty for none.
    pub text: Bytes,
    /// The value of its key `seed`, if that is a whole number from 0 on.
    pub seed: Option<u64>,
}

impl ResetParameters {
    /// A seed and the members of JSON objects, given as texts, in one; an empty text has none. Of equal keys
    /// the last one is there, so that what comes later wins, over the seed too. Texts stay as they are unless
    /// a key comes twice; what is no JSON is taken as it is.
    #[must_use]
    pub fn joined(seed: Option<u64>, objects: [&[u8]; 2]) -> Self {
        let object = seed.map(|seed| format!("{{\"seed\":{seed}}}")).unwrap_or_default();
        let texts = [object.as_bytes(), objects[0], objects[1]].map(inner);
        if texts.iter().all(|text| text.is_empty()) {
            let is_given = objects.iter().any(|text| !text.trim_ascii().is_empty());
            let text = if is_given { Bytes::from_static(b"{}") } else { Bytes::new() };
            return Self { text, seed: None };
        }
        let text = between_braces(texts);
        if texts[1..].iter().all(|text| text.is_empty()) {
            return Self { text, seed };
        }
        let Ok(Members(members)) = serde_json::from_slice(&text) else {
            return Self { text, seed };
        };
        let mut last = HashMap::with_capacity(members.len());
        for (place, (key, _)) in members.iter().enumerate() {
            last.insert(key.as_str(), place);
        }
        let seed = last.get("seed").and_then(|place| members[*place].1.get().parse().ok());
        if last.len() == members.len() {
            return Self { seed, text };
        }
        let mut once = Vec::with_capacity(text.len());
        for (place, (key, value)) in members.iter().enumerate() {
            if last.get(key.as_str()) == Some(&place) {
                once.push(if once.is_empty() { b'{' } else { b',' });
                json_text::put_string(&mut once, key);
                once.push(b':');
                once.extend_from_slice(value.get().as_bytes());
            }
        }
        once.push(b'}');
        Self { seed, text: once.into() }
    }
}

/// What is between the braces of an object.
fn inner(object: &[u8]) -> &[u8] {
    let object = object.trim_ascii();
    let members = object.strip_prefix(b"{").and_then(|inner| inner.strip_suffix(b"}"));
    members.unwrap_or_default().trim_ascii_start()
}

fn between_braces(texts: [&[u8]; 3]) -> Bytes {
    let mut all = Vec::with_capacity(4 + texts.iter().map(|text| text.len()).sum::<usize>());
    all.push(b'{');
    for text in texts.iter().filter(|text| !text.is_empty()) {
        if all.len() > 1 {
            all.push(b',');
        }
        all.extend_from_slice(text);
    }
    all.push(b'}');
    all.into()
}

/// The members of an object in their order, equal keys included.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Taking;

        impl<'de> Visitor<'de> for Taking {
            type Value = Vec<(String, &'de RawValue)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(members)
            }
        }

        deserializer.deserialize_map(Taking).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(seed: Option<u64>, objects: [&str; 2]) -> (String, Option<u64>) {
        let joined = ResetParameters::joined(seed, objects.map(str::as_bytes));
        (String::from_utf8(joined.text.to_vec()).unwrap(), joined.seed)
    }

    #[test]
    fn texts_stay_as_they_are_where_no_key_comes_twice() {
        for (seed, objects, expected) in [
            (None, ["", ""], ""),
            (None, ["", " {} "], "{}"),
            (Some(42), [" {} ", ""], r#"{"seed":42}"#),
            (Some(42), [r#"{ "split": "a" }"#, ""], r#"{"seed":42,"split": "a" }"#),
            (
                Some(1),
                [r#"{"a":"{"}"#, r#"{"b":[1.50,{"seed":3}]}"#],
                r#"{"seed":1,"a":"{","b":[1.50,{"seed":3}]}"#,
            ),
            (None, ["", r#"{"a":1e400}"#], r#"{"a":1e400}"#),
        ] {
            assert_eq!(joined(seed, objects), (expected.to_owned(), seed));
        }
    }

    #[test]
    fn of_equal_keys_the_last_one_is_there() {
        for (seed, objects, expected, sent) in [
            (Some(5), ["", r#"{"seed":17}"#], r#"{"seed":17}"#, Some(17)),
            (
                Some(5),
                [r#"{"seed":8,"x":1}"#, r#"{"y":2, "seed" : 17}"#],
                r#"{"x":1,"y":2,"seed":17}"#,
                Some(17),
            ),
            (Some(5), [r#"{"s\u0065ed":8}"#, ""], r#"{"seed":8}"#, Some(8)),
            (Some(5), ["", r#"{"seed":null}"#], r#"{"seed":null}"#, None),
            (None, [r#"{"level":1}"#, r#"{"level":3}"#], r#"{"level":3}"#, None),
            (None, ["", r#"{"seed":17,"a\"b":1}"#], r#"{"seed":17,"a\"b":1}"#, Some(17)),
            (None, ["", r#"{"seed":-1}"#], r#"{"seed":-1}"#, None),
        ] {
            assert_eq!(joined(seed, objects), (expected.to_owned(), sent));
        }
    }

    #[test]
    fn what_is_no_json_is_taken_as_it_is() {
        assert_eq!(joined(Some(5), ["{a}", ""]), (r#"{"seed":5,a}"#.to_owned(), Some(5)));
    }
}
