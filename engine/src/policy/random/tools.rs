//! Calls of tools as actions: from the schema of `call_tool` and the schemas of the tools, one schema.
//!
//! OpenEnv's own schema of a tool call says that `tool_name` is a text and `arguments` an object. An
//! action that is no more than that is refused by every tool; so each tool becomes an alternative, in
//! which its name is fixed and its own schema describes the arguments.

use envmill_openenv::Tool;
use serde_json::{Map, Value, json};

/// How an environment takes calls of tools.
enum Calls {
    /// Its action is one: `tool_name` and `arguments`, and perhaps more.
    Described,
    /// Its action says nothing (OpenEnv's base class, or `list_tools`), which is how an environment
    /// says that it takes OpenEnv's own `call_tool` action.
    Bare,
}

fn calls(action: &Value) -> Option<Calls> {
    let properties = action.get("properties").and_then(Value::as_object)?;
    if properties.contains_key("tool_name") && properties.contains_key("arguments") {
        return Some(Calls::Described);
    }
    let lists = |schema: &Value| schema.get("const").and_then(Value::as_str) == Some("list_tools");
    let says_nothing = properties.iter().all(|(name, schema)| name == "metadata" || lists(schema));
    says_nothing.then_some(Calls::Bare)
}

/// Whether an environment with this action schema may have tools to call.
pub(super) fn takes_tools(action: &Value) -> bool {
    calls(action).is_some()
}

/// The schema of an action that calls one of the tools; `None` where there are none to call.
pub(super) fn with_tools(action: &Value, tools: &[Tool]) -> Option<Value> {
    let calls = calls(action)?;
    let inputs: Vec<(&str, Value)> = tools
        .iter()
        .filter_map(|tool| Some((&*tool.name, serde_json::from_str(&tool.input_schema).ok()?)))
        .collect();
    let mut document = Map::new();
    let base = match calls {
        Calls::Described => {
            document.insert("action".into(), moved(action.clone(), "#/action"));
            json!({"$ref": "#/action"})
        }
        Calls::Bare => json!({
            "type": "object",
            "properties": {"type": {"const": "call_tool"}},
            "required": ["type"],
        }),
    };
    let alternatives: Vec<Value> = inputs
        .iter()
        .enumerate()
        .map(|(index, (name, _))| {
            let call = json!({
                "type": "object",
                "properties": {
                    "tool_name": {"const": name},
                    "arguments": {"type": "object", "$ref": format!("#/tools/{index}")},
                },
                "required": ["tool_name", "arguments"],
            });
            json!({"allOf": [base, call]})
        })
        .collect();
    let inputs = inputs.into_iter().enumerate();
    let inputs = inputs.map(|(index, (_, input))| moved(input, &format!("#/tools/{index}")));
    document.insert("tools".into(), inputs.collect());
    let some = !alternatives.is_empty();
    document.insert("oneOf".into(), Value::Array(alternatives));
    some.then_some(Value::Object(document))
}

/// A schema whose references still lead to its own parts after it has been moved into another
/// document, to the place `to`.
fn moved(mut schema: Value, to: &str) -> Value {
    match &mut schema {
        Value::Object(members) => {
            for (name, member) in members.iter_mut() {
                let reference = (name == "$ref").then(|| member.as_str()).flatten();
                if let Some(rest) = reference.and_then(|reference| reference.strip_prefix('#')) {
                    *member = Value::String(format!("{to}{rest}"));
                } else {
                    *member = moved(member.take(), to);
                }
            }
        }
        Value::Array(members) => {
            for member in members {
                *member = moved(member.take(), to);
            }
        }
        _ => {}
    }
    schema
}
