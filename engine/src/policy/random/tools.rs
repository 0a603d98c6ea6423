//! Calls of tools as actions: from the schema of `call_tool` and the schemas of the tools, one schema.
//!
//! OpenEnv's own schema of a tool call says that `tool_name` is a text and `arguments` an object. An
//! action that is no more than that is refused by every tool; so each tool becomes an alternative, in
//! which its name is fixed and its own schema describes the arguments.

use envmill_openenv::Tool;
use serde_json::{Map, Value, json};

/// How an environment takes calls of tools.
enum Calls {
    /// Its action is one, or one alternative of its action is: `tool_name` and `arguments`, and perhaps
    /// more. This is the JSON pointer to it.
    Described(String),
    /// Its action says nothing (OpenEnv's base class, or `list_tools`), which is how an environment
    /// says that it takes OpenEnv's own `call_tool` action.
    Bare,
}

fn calls(action: &Value) -> Option<Calls> {
    if is_call(action) {
        return Some(Calls::Described(String::new()));
    }
    for keyword in ["oneOf", "anyOf"] {
        let Some(Value::Array(alternatives)) = action.get(keyword) else { continue };
        return alternatives.iter().enumerate().find_map(|(index, alternative)| {
            let reference = alternative.get("$ref").and_then(Value::as_str);
            let pointer = match reference.and_then(|reference| reference.strip_prefix('#')) {
                Some(pointer) => pointer.to_owned(),
                None => format!("/{keyword}/{index}"),
            };
            is_call(action.pointer(&pointer)?).then_some(Calls::Described(pointer))
        });
    }
    let properties = action.get("properties").and_then(Value::as_object)?;
    let lists = |schema: &Value| schema.get("const").and_then(Value::as_str) == Some("list_tools");
    let says_nothing = properties.iter().all(|(name, schema)| name == "metadata" || lists(schema));
    says_nothing.then_some(Calls::Bare)
}

fn is_call(schema: &Value) -> bool {
    let has = |name| schema.get("properties").and_then(|properties| properties.get(name)).is_some();
    has("tool_name") && has("arguments")
}

/// Whether an environment with this action schema may have tools to call.
pub(super) fn takes_tools(action: &Value) -> bool {
    calls(action).is_some()
}

/// Whether no action of this schema can be a call of a tool, or be taken for one: it says of what its actions
/// are made, and that is neither a type nor a tool's name.
pub(super) fn are_beside(action: &Value) -> bool {
    !takes_tools(action) && names(action) == Some(false)
}

/// Whether there is a property, at any depth, that a call of a tool has, too; `None` where there are none at
/// all.
fn names(schema: &Value) -> Option<bool> {
    let found = match schema {
        Value::Object(object) => {
            let properties = object.get("properties").and_then(Value::as_object);
            let here = properties
                .filter(|it| !it.is_empty())
                .map(|it| ["type", "tool_name"].iter().any(|name| it.contains_key(*name)));
            object.values().map(names).chain([here]).collect::<Vec<_>>()
        }
        Value::Array(all) => all.iter().map(names).collect(),
        _ => return None,
    };
    found.into_iter().flatten().reduce(|one, other| one || other)
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
        Calls::Described(pointer) => {
            document.insert("action".into(), moved(action.clone(), "#/action"));
            json!({"$ref": format!("#/action{pointer}")})
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Sampler;

    #[test]
    fn tools_are_beside_actions_that_are_no_calls() {
        let of = |properties: Value| json!({"type": "object", "properties": properties});
        let text = || json!({"type": "string"});
        assert!(are_beside(&of(json!({"answer": text()}))));
        assert!(are_beside(
            &json!({"oneOf": [of(json!({"a": text()})), of(json!({"b": text()}))]})
        ));
        for others in [
            call_tool(),
            of(json!({"metadata": {"type": "object"}})),
            of(json!({"type": text(), "answer": text()})),
            of(json!({"tool_name": text()})),
            json!({"anyOf": [of(json!({"a": text()})), of(json!({"type": text()}))]}),
            json!({"type": "object"}),
            json!(true),
        ] {
            assert!(!are_beside(&others), "{others}");
        }
    }

    fn drawn(action: &Value) -> Vec<Value> {
        let tools = [
            Tool {
                name: "add".into(),
                input_schema: r##"{"$defs":{"N":{"type":"integer"}},"type":"object",
                    "properties":{"a":{"$ref":"#/$defs/N"}},"required":["a"],
                    "additionalProperties":false}"##
                    .into(),
            },
            Tool { name: "boom".into(), input_schema: r#"{"type":"object"}"#.into() },
            Tool { name: "no schema".into(), input_schema: "{".into() },
        ];
        let action = action.to_string();
        let mut sampler = Sampler::compile_with_tools(action.as_bytes(), &tools).unwrap();
        assert!(Sampler::takes_tools(action.as_bytes()));
        let draw = |step| sampler.draw(1, step, b"{}").unwrap();
        let actions: Vec<_> = (0..50).map(draw).collect();
        actions.iter().map(|action| serde_json::from_slice(action).unwrap()).collect()
    }

    fn call_tool() -> Value {
        json!({
            "additionalProperties": false,
            "properties": {
                "metadata": {"additionalProperties": true, "type": "object"},
                "type": {"const": "call_tool", "default": "call_tool", "type": "string"},
                "tool_name": {"type": "string"},
                "arguments": {"additionalProperties": true, "type": "object"},
            },
            "required": ["tool_name"],
            "type": "object",
        })
    }

    fn check(actions: &[Value]) {
        for action in actions {
            assert_eq!(action["type"], "call_tool", "{action}");
            match action["tool_name"].as_str() {
                Some("add") => assert!(action["arguments"]["a"].is_i64(), "{action}"),
                Some("boom") => assert_eq!(action["arguments"], json!({})),
                _ => panic!("{action}"),
            }
        }
        assert!(actions.iter().any(|action| action["tool_name"] == "add"));
        assert!(actions.iter().any(|action| action["tool_name"] == "boom"));
    }

    #[test]
    fn every_way_to_take_calls_gives_calls() {
        check(&drawn(&call_tool()));
        check(&drawn(&json!({"type": "object", "properties": {"metadata": {}}})));
        check(&drawn(&json!({
            "type": "object",
            "properties": {"type": {"const": "list_tools"}, "metadata": {}},
        })));
        let list = json!({"properties": {"type": {"const": "list_tools"}}, "type": "object"});
        check(&drawn(&json!({
            "$defs": {"Call": call_tool(), "List": list},
            "oneOf": [{"$ref": "#/$defs/List"}, {"$ref": "#/$defs/Call"}],
        })));
        check(&drawn(&json!({"anyOf": [list, call_tool()]})));
    }

    #[test]
    fn other_actions_have_no_tools() {
        for other in [
            json!({"type": "object", "properties": {"message": {"type": "string"}}}),
            json!({"type": "object", "properties": {"tool_name": {"type": "string"}}}),
            json!({"oneOf": [{"$ref": "#/nowhere"}]}),
            json!(true),
        ] {
            assert!(!Sampler::takes_tools(other.to_string().as_bytes()), "{other}");
        }
    }
}
