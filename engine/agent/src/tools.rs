//! Tools of an environment: how they are asked for, shown to a model and called.

use bytes::Bytes;
use envmill_chat::{Json, ToolCall};
use serde::Deserialize;
use serde_json::value::RawValue;

/// The action that asks a tool environment of OpenEnv for its tools.
pub(crate) const LIST: &[u8] = br#"{"type":"list_tools"}"#;

/// The action that calls one.
pub(crate) fn call(call: &ToolCall) -> Result<Bytes, String> {
    // The arguments stay the text that the model wrote, if it is an object.
    let arguments: &RawValue = serde_json::from_str(&call.arguments)
        .map_err(|error| format!("the arguments of {} are no JSON: {error}", call.name))?;
    if !arguments.get().starts_with('{') {
        return Err(format!("the arguments of {} are no JSON object", call.name));
    }
    let name = serde_json::to_string(&call.name).map_err(|error| error.to_string())?;
    let action = format!(
        "{{\"type\":\"call_tool\",\"tool_name\":{name},\"arguments\":{}}}",
        arguments.get().replace(['\n', '\r'], " ")
    );
    Ok(action.into())
}

/// The tools that an environment answers with, as templates want them, and what names the set.
pub(crate) fn listed(observation: &[u8]) -> Result<(Vec<Json>, String), String> {
    #[derive(Deserialize)]
    struct Listed<'a> {
        #[serde(borrow)]
        tools: Vec<Tool<'a>>,
    }
    #[derive(Deserialize)]
    struct Tool<'a> {
        name: String,
        #[serde(default)]
        description: Option<String>,
        #[serde(default, borrow, alias = "inputSchema")]
        input_schema: Option<&'a RawValue>,
    }
    let listed: Listed<'_> = serde_json::from_slice(observation)
        .map_err(|error| format!("the environment does not answer with its tools: {error}"))?;
    let mut tools = Vec::new();
    let mut key = String::new();
    for tool in listed.tools {
        let parameters =
            tool.input_schema.map_or(r#"{"type":"object","properties":{}}"#, RawValue::get);
        let text = format!(
            "{{\"type\":\"function\",\"function\":{{\"name\":{},\"description\":{},\"parameters\":{parameters}}}}}",
            serde_json::Value::from(tool.name),
            serde_json::Value::from(tool.description.unwrap_or_default()),
        );
        tools.push(Json::parse(&text).map_err(|error| error.to_string())?);
        key.push_str(&text);
    }
    Ok((tools, key))
}

/// What a tool answered, as a model is told: its result, or what went wrong.
pub(crate) fn answer(observation: &str) -> String {
    #[derive(Deserialize)]
    struct Answer<'a> {
        #[serde(default, borrow)]
        result: Option<&'a RawValue>,
        #[serde(default, borrow)]
        error: Option<&'a RawValue>,
    }
    #[derive(Deserialize)]
    struct Wrapped<'a> {
        #[serde(default, borrow)]
        data: Option<&'a RawValue>,
    }
    let Ok(answer) = serde_json::from_str::<Answer<'_>>(observation) else {
        return observation.to_owned();
    };
    let raw = match (answer.error.filter(|it| it.get() != "null"), answer.result) {
        (Some(error), _) => return format!("error: {}", text(error.get())),
        (None, Some(result)) => result.get(),
        (None, None) => return observation.to_owned(),
    };
    // Servers of MCP wrap a result in an object that also says how it is to be shown.
    let data = serde_json::from_str::<Wrapped<'_>>(raw).ok().and_then(|it| it.data);
    text(data.map_or(raw, RawValue::get))
}

fn text(json: &str) -> String {
    serde_json::from_str::<String>(json).unwrap_or_else(|_| json.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_actions() {
        let it = ToolCall {
            id: String::new(),
            name: "echo \"x\"".to_owned(),
            arguments: "{\"a\":\n1}".to_owned(),
        };
        let action = call(&it).unwrap();
        let value: serde_json::Value = serde_json::from_slice(&action).unwrap();
        assert_eq!(value["tool_name"], "echo \"x\"");
        assert_eq!(value["arguments"]["a"], 1);
        for arguments in ["", "[1]", "{"] {
            assert!(call(&ToolCall { arguments: arguments.to_owned(), ..it.clone() }).is_err());
        }
    }

    #[test]
    fn tools_are_shown_as_functions() {
        let (tools, key) = listed(
            br#"{"tools":[{"name":"add","description":"adds","input_schema":{"type":"object"}}],"x":1}"#,
        )
        .unwrap();
        assert_eq!(tools.len(), 1);
        assert!(
            key.contains("\"name\":\"add\"")
                && key.contains("\"parameters\":{\"type\":\"object\"}")
        );
        assert!(listed(b"{}").is_err());
        assert!(listed(b"null").is_err());
    }

    #[test]
    fn answers_are_told_as_text() {
        assert_eq!(answer(r#"{"result":{"content":[],"data":"7"},"error":null}"#), "7");
        assert_eq!(answer(r#"{"result":{"a":1}}"#), r#"{"a":1}"#);
        assert_eq!(answer(r#"{"result":"hello"}"#), "hello");
        assert_eq!(answer(r#"{"error":"no such tool"}"#), "error: no such tool");
        assert_eq!(answer("nonsense"), "nonsense");
    }
}
