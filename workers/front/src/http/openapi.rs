//! The API's description: what is served, and nothing else.

use bytes::Bytes;
use serde_json::{Value, json};

use crate::Description;

/// The document at `/openapi.json`.
pub(super) fn document(description: &Description) -> Bytes {
    let Description { name, version, action_schema, observation_schema, state_schema, .. } =
        description;
    let schema = |text: &Bytes| serde_json::from_slice::<Value>(text).unwrap_or_else(|_| json!({}));
    let answer = |what: &str, schema: Value| {
        json!({ "200": {
            "description": what,
            "content": { "application/json": { "schema": schema } },
        }})
    };
    let reference = |name: &str| json!({ "$ref": format!("#/components/schemas/{name}") });
    let observed = json!({
        "type": "object",
        "properties": {
            "observation": reference("Observation"),
            "reward": { "anyOf": [{ "type": "number" }, { "type": "null" }] },
            "done": { "type": "boolean" },
            "metadata": { "anyOf": [{ "type": "object" }, { "type": "null" }] },
        },
        "required": ["observation", "reward", "done"],
    });
    let get = |summary: &str, schema: Value| json!({ "get": { "summary": summary, "responses": answer(summary, schema) } });
    let post = |summary: &str, body: Value| {
        json!({ "post": {
            "summary": summary,
            "requestBody": { "content": { "application/json": { "schema": body } } },
            "responses": answer(summary, reference("Observed")),
        }})
    };
    let object = json!({ "type": "object" });
    let step = json!({
        "type": "object",
        "properties": { "action": reference("Action") },
        "required": ["action"],
    });
    let document = json!({
        "openapi": "3.1.0",
        "info": { "title": name, "version": version },
        "paths": {
            "/health": get("Whether the server is up", object.clone()),
            "/metadata": get("What the environment is", object.clone()),
            "/schema": get("The JSON Schemas of actions, observations and state", object.clone()),
            "/reset": post("Reset a fresh environment (stateless)", object),
            "/step": post("Step a fresh environment (stateless)", step),
            "/state": get("The state of a fresh environment (stateless)", reference("State")),
        },
        "components": { "schemas": {
            "Action": schema(action_schema),
            "Observation": schema(observation_schema),
            "Observed": observed,
            "State": schema(state_schema),
        }},
    });
    document.to_string().into()
}
