//! What a generation's text has to be.

use std::sync::Arc;

use serde_json::Value;

use super::{Error, ErrorKind};

/// What a generation's text has to be: of all tokens, the engine samples among those that can go on with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Constraint {
    /// A JSON object.
    JsonObject,
    /// JSON that follows a schema.
    JsonSchema(JsonSchema),
}

/// A JSON schema, as it was written: the order of its properties is the order in which they are sampled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonSchema(Arc<str>);

/// Objects and lists of a schema are in each other at most so deep, as with vLLM.
const NESTING: usize = 64;

impl JsonSchema {
    /// A schema, from its text.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Refused`]: it is no JSON object, or nested too deeply.
    pub fn new(text: &str) -> Result<Self, Error> {
        let refused = |what: String| Error::new(ErrorKind::Refused, what);
        let value: Value = serde_json::from_str(text)
            .map_err(|error| refused(format!("a JSON schema that is no JSON: {error}")))?;
        if !value.is_object() {
            return Err(refused("a JSON schema is an object".to_owned()));
        }
        if depth(&value) > NESTING {
            return Err(refused(format!("a JSON schema nests at most {NESTING} levels")));
        }
        Ok(Self(text.into()))
    }

    /// Its text: one JSON object.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Constraint {
    /// As vLLM's `structured_outputs` has it: the text of a JSON object.
    #[must_use]
    pub fn to_json(&self) -> String {
        match self {
            Self::JsonObject => r#"{"json_object":true}"#.to_owned(),
            Self::JsonSchema(schema) => format!(r#"{{"json":{}}}"#, schema.as_str()),
        }
    }
}

/// How deep objects and lists are in each other. What was read as JSON is no deeper than 128.
fn depth(value: &Value) -> usize {
    match value {
        Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or(0),
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemas_stay_as_they_are_written() {
        let text = r#"{"properties": {"b": {}, "a": {}}}"#;
        let schema = JsonSchema::new(text).unwrap();
        assert_eq!(schema.as_str(), text);
        let json = Constraint::JsonSchema(schema).to_json();
        assert_eq!(json, format!(r#"{{"json":{text}}}"#));
        assert!(serde_json::from_str::<Value>(&Constraint::JsonObject.to_json()).is_ok());
    }

    #[test]
    fn what_is_no_schema_is_refused() {
        let deep = format!("{}{}", r#"{"a":"#.repeat(70), "1".to_owned() + &"}".repeat(70));
        for text in ["", "1", "[]", "{", &deep] {
            assert_eq!(JsonSchema::new(text).unwrap_err().kind, ErrorKind::Refused, "{text}");
        }
    }
}
