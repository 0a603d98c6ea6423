//! The JSON Schemas of a native environment, in pydantic's style.

use bytes::Bytes;
use serde_json::{Map, Value, json};

/// What goes over the wire, as JSON Schemas: each the text of one JSON object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schemas {
    /// An action.
    pub action: Bytes,
    /// An observation, with `done`, `reward` and `metadata` as OpenEnv adds them.
    pub observation: Bytes,
    /// The state.
    pub state: Bytes,
}

impl Schemas {
    /// Schemas named `{title}Action` and so on, of the given properties. OpenEnv's common fields
    /// are added.
    pub(crate) fn new(
        title: &str,
        action: Value,
        required: &[&str],
        observation: Value,
        state: Value,
    ) -> Self {
        let metadata = |of: &str| {
            json!({
                "additionalProperties": true,
                "description": format!("Additional metadata for the {of}"),
                "title": "Metadata",
                "type": "object",
            })
        };
        let mut actions = json!({ "metadata": metadata("action") });
        extend(&mut actions, action);
        let mut observations = json!({
            "done": {
                "default": false,
                "description": "Whether the episode has terminated",
                "title": "Done",
                "type": "boolean",
            },
            "reward": {
                "anyOf": [
                    { "type": "boolean" }, { "type": "integer" },
                    { "type": "number" }, { "type": "null" },
                ],
                "default": null,
                "description": "Reward signal from the last action",
                "title": "Reward",
            },
            "metadata": metadata("observation"),
        });
        extend(&mut observations, observation);
        let mut states = json!({
            "episode_id": {
                "anyOf": [{ "type": "string" }, { "type": "null" }],
                "default": null,
                "description": "Unique identifier for the current episode",
                "title": "Episode Id",
            },
            "step_count": {
                "default": 0,
                "description": "Number of steps taken in the current episode",
                "minimum": 0,
                "title": "Step Count",
                "type": "integer",
            },
        });
        extend(&mut states, state);
        Self {
            action: object(&format!("{title}Action"), actions, required, false),
            observation: object(&format!("{title}Observation"), observations, &[], false),
            state: object(&format!("{title}State"), states, &[], true),
        }
    }
}

fn extend(object: &mut Value, more: Value) {
    if let (Value::Object(object), Value::Object(more)) = (object, more) {
        object.extend(more);
    }
}

fn object(title: &str, properties: Value, required: &[&str], additional: bool) -> Bytes {
    let mut schema = Map::new();
    schema.insert("additionalProperties".into(), additional.into());
    schema.insert("properties".into(), properties);
    if !required.is_empty() {
        schema.insert("required".into(), required.into());
    }
    schema.insert("title".into(), title.into());
    schema.insert("type".into(), "object".into());
    Bytes::from(Value::Object(schema).to_string())
}
