//! A path to one field of an answer.

use std::{fmt, str::FromStr};

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

/// A dotted path to one field of an answer, such as `metadata.truncated` or
/// `observation.info.is_truncated`. It starts at `metadata` or `observation` and goes through
/// objects only; keys that hold a dot cannot be named.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FieldPath {
    root: Root,
    keys: Box<[Box<str>]>,
}

/// Where a path starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Root {
    Metadata,
    Observation,
}

/// Why a text is no [`FieldPath`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FieldPathError {
    /// It starts elsewhere, or names no field below its start.
    #[error("`{0}` does not name a field: write `metadata.NAME` or `observation.NAME`")]
    Root(String),
    /// Two dots have nothing between them, or nothing follows the last.
    #[error("`{0}` has an empty part: put exactly one dot between two names")]
    EmptyPart(String),
}

impl FieldPath {
    pub(super) const fn root(&self) -> Root {
        self.root
    }

    /// The boolean that this path leads to from `root` (the text of one valid JSON value); `None`
    /// where it leads to nothing or to something else. Of repeated keys the last counts.
    pub(super) fn boolean(&self, root: &str) -> Option<bool> {
        let mut text = root;
        for key in &self.keys {
            text = field(text, key)?;
        }
        match text {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        }
    }
}

impl FromStr for FieldPath {
    type Err = FieldPathError;

    fn from_str(path: &str) -> Result<Self, FieldPathError> {
        let (root, rest) = path.split_once('.').ok_or_else(|| FieldPathError::Root(path.into()))?;
        let root = match root {
            "metadata" => Root::Metadata,
            "observation" => Root::Observation,
            _ => return Err(FieldPathError::Root(path.into())),
        };
        let keys: Box<[Box<str>]> = rest.split('.').map(Box::from).collect();
        if keys.iter().any(|key| key.is_empty()) {
            return Err(FieldPathError::EmptyPart(path.into()));
        }
        Ok(Self { root, keys })
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.root {
            Root::Metadata => "metadata",
            Root::Observation => "observation",
        })?;
        self.keys.iter().try_for_each(|key| write!(f, ".{key}"))
    }
}

/// The text of the value that an object (the text of one valid JSON value) has under `key`.
pub(super) fn field<'a>(object: &'a str, key: &str) -> Option<&'a str> {
    let mut deserializer = serde_json::Deserializer::from_str(object);
    Lookup(key).deserialize(&mut deserializer).ok()?.map(RawValue::get)
}

/// Finds the value of one key of an object, without building anything.
struct Lookup<'k>(&'k str);

impl<'de> DeserializeSeed<'de> for Lookup<'_> {
    type Value = Option<&'de RawValue>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Lookup<'_> {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(wanted) = map.next_key_seed(Matches(self.0))? {
            if wanted {
                found = Some(map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}

/// Compares a key without keeping it.
struct Matches<'k>(&'k str);

impl<'de> DeserializeSeed<'de> for Matches<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Matches<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<bool, E> {
        Ok(key == self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> FieldPath {
        text.parse().unwrap()
    }

    #[test]
    fn paths_are_parsed_and_shown() {
        assert_eq!(path("metadata.a.b").to_string(), "metadata.a.b");
        assert_eq!(path("observation.x").root(), Root::Observation);
        for wrong in ["", "metadata", "observation", "truncated", "reward.x", ".x"] {
            let result = wrong.parse::<FieldPath>();
            assert_eq!(result, Err(FieldPathError::Root(wrong.into())));
        }
        for wrong in ["metadata.", "metadata..x", "observation.x."] {
            let result = wrong.parse::<FieldPath>();
            assert_eq!(result, Err(FieldPathError::EmptyPart(wrong.into())));
        }
    }

    #[test]
    fn only_booleans_at_the_end_of_objects_count() {
        let path = path("metadata.a.b");
        assert_eq!(path.boolean(r#"{"x":[1],"a":{"b":true,"c":0}}"#), Some(true));
        assert_eq!(path.boolean(r#"{"a":{"b":false}}"#), Some(false));
        assert_eq!(path.boolean(r#"{"a":{"b":false},"a":{"\u0062":true}}"#), Some(true));
        for text in
            ["{}", "[]", "null", "3", r#"{"a":[true]}"#, r#"{"a":{"b":1}}"#, r#"{"b":true}"#]
        {
            assert_eq!(path.boolean(text), None, "{text}");
        }
    }
}
