//! What is served, in words and schemas.

use bytes::Bytes;
use serde_json::{Value, value::RawValue};

/// What is served, as `/metadata`, `/schema` and the Task API tell it.
///
/// The texts may come from foreign code. One that is not what it should be is not served: an empty
/// object stands in its place.
#[derive(Clone, Debug, Default)]
pub struct Description {
    /// The environment's name.
    pub name: String,
    /// One sentence about it.
    pub description: String,
    /// Its version.
    pub version: String,
    /// The environment's name in the paths of the Task API and in errors of its construction; by
    /// OpenEnv's custom the name of its class. Empty for [`name`](Self::name).
    pub env_name: String,
    /// What `/metadata` answers: the text of one JSON object. Empty, or anything else, for one made
    /// from name, description and version.
    pub metadata: Bytes,
    /// The JSON Schema of an action: the text of one JSON object.
    pub action_schema: Bytes,
    /// The JSON Schema of an observation: the text of one JSON object.
    pub observation_schema: Bytes,
    /// The JSON Schema of a reset's observation: the text of one JSON object. Empty where it is the
    /// same as that of other observations.
    pub reset_observation_schema: Bytes,
    /// The JSON Schema of the state: the text of one JSON object.
    pub state_schema: Bytes,
}

impl Description {
    /// The name in the Task API's paths.
    pub(crate) fn env_name(&self) -> &str {
        if self.env_name.is_empty() { &self.name } else { &self.env_name }
    }

    /// The answer of `/metadata`.
    pub(crate) fn metadata(&self) -> Bytes {
        if is_object(&self.metadata) {
            return self.metadata.clone();
        }
        let quoted = |text: &str| Value::from(text).to_string();
        let Self { name, description, version, .. } = self;
        format!(
            r#"{{"name":{},"description":{},"readme_content":null,"version":{},"author":null,"documentation_url":null}}"#,
            quoted(name),
            quoted(description),
            quoted(version)
        )
        .into()
    }

    /// The answer of `/schema`.
    pub(crate) fn schema(&self) -> Bytes {
        let reset = if self.reset_observation_schema.is_empty() {
            &self.observation_schema
        } else {
            &self.reset_observation_schema
        };
        let mut out = Vec::new();
        for (key, schema) in [
            ("{\"action\":", &self.action_schema),
            (",\"observation\":", &self.observation_schema),
            (",\"state\":", &self.state_schema),
            (",\"reset_observation\":", reset),
        ] {
            out.extend_from_slice(key.as_bytes());
            out.extend_from_slice(object(schema));
        }
        out.push(b'}');
        out.into()
    }
}

/// `text` if it is one JSON object, else an empty one.
pub(crate) fn object(text: &[u8]) -> &[u8] {
    if is_object(text) { text } else { b"{}" }
}

fn is_object(text: &[u8]) -> bool {
    serde_json::from_slice::<&RawValue>(text).is_ok_and(|raw| raw.get().starts_with('{'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_object_is_served_as_an_empty_one() {
        let description = Description {
            name: "a \"b\"".into(),
            metadata: Bytes::from_static(b"[1]"),
            action_schema: Bytes::from_static(b"{\"type\":"),
            observation_schema: Bytes::from_static(br#"{"title":"O"}"#),
            state_schema: Bytes::from_static(b"\xff"),
            ..Description::default()
        };
        assert_eq!(
            description.schema(),
            r#"{"action":{},"observation":{"title":"O"},"state":{},"reset_observation":{"title":"O"}}"#
        );
        assert!(description.metadata().starts_with(br#"{"name":"a \"b\"","description":"","#));
        assert_eq!(description.env_name(), "a \"b\"");
    }

    #[test]
    fn what_an_environment_gave_is_served_as_it_is() {
        let description = Description {
            env_name: "E".into(),
            metadata: Bytes::from_static(br#"{"name":"x", "more":1}"#),
            reset_observation_schema: Bytes::from_static(br#"{"title":"R"}"#),
            ..Description::default()
        };
        assert_eq!(description.metadata(), r#"{"name":"x", "more":1}"#);
        assert!(description.schema().ends_with(br#""reset_observation":{"title":"R"}}"#));
        assert_eq!(description.env_name(), "E");
    }
}
