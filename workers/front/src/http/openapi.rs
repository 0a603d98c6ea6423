//! The API's description: what is served, and nothing else.

use bytes::Bytes;
use serde_json::{Value, json};

use crate::{Description, Mode};

/// The version of OpenEnv's HTTP API that is served, by which `openenv validate` knows what to
/// expect.
const API_VERSION: &str = "1.0.0";

/// The document at `/openapi.json`.
pub(super) fn document(description: &Description, mode: Mode) -> Bytes {
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
    let split = json!({
        "type": "object",
        "properties": { "split": { "type": "string" } },
        "required": ["split"],
    });
    let array = json!({ "type": "array" });
    let ask = |summary: &str, body: &Value| {
        json!({ "post": {
            "summary": summary,
            "requestBody": { "content": { "application/json": { "schema": body } } },
            "responses": answer(summary, object.clone()),
        }})
    };
    let mut paths = json!({
        "/health": get("Whether the server is up", object.clone()),
        "/metadata": get("What the environment is", object.clone()),
        "/schema": get("The JSON Schemas of actions, observations and state", object.clone()),
        "/mcp": ask("JSON-RPC 2.0: tools, and sessions", &object),
        "/list_environments": get("The environment's name in the paths below", array.clone()),
        "/{env_name}/splits": get("The splits of tasks", array),
        "/{env_name}/tasks": ask("The tasks of a split", &split),
        "/{env_name}/num_tasks": ask("How many tasks a split has", &split),
        "/{env_name}/task": ask("A task by its index", &split),
        "/{env_name}/task_range": ask("Tasks from one index to another", &split),
    });
    let env_name = json!([{
        "name": "env_name", "in": "path", "required": true, "schema": { "type": "string" },
    }]);
    for question in ["splits", "tasks", "num_tasks", "task", "task_range"] {
        paths[format!("/{{env_name}}/{question}")]["parameters"] = env_name.clone();
    }
    if mode == Mode::Simulation {
        paths["/reset"] = post("Reset a fresh environment (stateless)", object.clone());
        paths["/step"] = post("Step a fresh environment (stateless)", step);
        paths["/state"] = get("The state of a fresh environment (stateless)", reference("State"));
    }
    let document = json!({
        "openapi": "3.1.0",
        "info": {
            "title": "OpenEnv Environment HTTP API",
            "version": API_VERSION,
            "description": format!("{name} {version}"),
        },
        "paths": paths,
        "components": { "schemas": {
            "Action": schema(action_schema),
            "Observation": schema(observation_schema),
            "Observed": observed,
            "State": schema(state_schema),
        }},
    });
    document.to_string().into()
}
