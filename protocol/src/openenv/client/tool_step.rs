//! Steps that ask for an environment's tools or call one, as requests of JSON-RPC.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};

use super::rpc::{CallId, call_result};
use crate::{Failure, FailureKind, Observed, Outcome, SessionFate};

/// A `list_tools` or a `call_tool` action, for sessions on which these are no actions: it goes as a request of
/// JSON-RPC, and what is answered becomes the observation that the action itself would have had.
#[derive(Clone, Debug)]
pub struct ToolStep {
    /// The tool that is called, as JSON; `None` where the tools are asked for.
    tool: Option<Box<RawValue>>,
}

impl ToolStep {
    /// Reads an action (the text of one JSON object), and writes the request that it comes to. `None`: it is
    /// another action.
    ///
    /// # Errors
    ///
    /// It is no JSON object.
    pub fn read(action: &[u8]) -> Result<Option<(Self, String)>, serde_json::Error> {
        #[derive(Deserialize)]
        struct Action {
            #[serde(default)]
            r#type: Value,
            tool_name: Option<Box<RawValue>>,
            arguments: Option<Box<RawValue>>,
        }
        let action: Action = serde_json::from_slice(action)?;
        Ok(match (action.tool_name, action.r#type.as_str()) {
            (None, Some("list_tools")) => {
                let request = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{}}"#;
                Some((Self { tool: None }, request.to_owned()))
            }
            (Some(name), Some("call_tool") | None) if name.get().starts_with('"') => {
                let arguments = action.arguments.as_deref().map_or("{}", RawValue::get);
                let request = format!(
                    r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":{name},"arguments":{arguments}}}}}"#
                );
                Some((Self { tool: Some(name) }, request))
            }
            _ => None,
        })
    }

    /// What the step comes to, from what its request came to. A tool that raises has answered, as it has where
    /// the call is an action.
    #[must_use]
    pub fn outcome(&self, of_request: Outcome) -> Outcome {
        let answer = match of_request {
            Outcome::ToolResult(response) => call_result(&response, &CallId::of(br#"{"id":1}"#)),
            Outcome::Failed(failure) => Err(failure),
            other => return other,
        };
        let observation = match (&self.tool, answer) {
            (None, Ok(tools)) => tools,
            (Some(tool), Ok(result)) => called(tool, &result, b"null"),
            (Some(tool), Err(failure)) if is_the_tools(&failure) => {
                let message = failure.message;
                let error = json!({"error_type": "execution_error", "message": message});
                called(tool, b"null", error.to_string().as_bytes())
            }
            (_, Err(failure)) => return Outcome::Failed(failure),
        };
        Outcome::Stepped(Observed { observation: observation.into(), ..Observed::default() })
    }
}

fn is_the_tools(failure: &Failure) -> bool {
    failure.kind == FailureKind::Environment && failure.session == SessionFate::Kept
}

/// The observation of a `call_tool` action.
fn called(tool: &RawValue, result: &[u8], error: &[u8]) -> Bytes {
    [
        br#"{"metadata":{},"tool_name":"#,
        tool.get().as_bytes(),
        br#","result":"#,
        result,
        br#","error":"#,
        error,
        b"}",
    ]
    .concat()
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(action: &str) -> (ToolStep, Value) {
        let (step, request) = ToolStep::read(action.as_bytes()).unwrap().unwrap();
        (step, serde_json::from_str(&request).unwrap())
    }

    fn seen(outcome: Outcome) -> String {
        let Outcome::Stepped(observed) = outcome else { panic!("{outcome:?}") };
        String::from_utf8_lossy(observed.observation.text()).into_owned()
    }

    #[test]
    fn tools_are_listed() {
        let (step, request) = read(r#"{"type":"list_tools"}"#);
        assert_eq!(request["method"], "tools/list");
        let answer = r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[]}}"#;
        assert_eq!(seen(step.outcome(Outcome::ToolResult(answer.into()))), r#"{"tools":[]}"#);
        let none = Failure::kept(FailureKind::Environment, "no MCP here");
        assert_eq!(step.outcome(Outcome::Failed(none.clone())), Outcome::Failed(none));
        assert_eq!(step.outcome(Outcome::Closed), Outcome::Closed);
    }

    #[test]
    fn tools_are_called() {
        for action in [
            r#"{"type":"call_tool","tool_name":"a \"b\"","arguments":{"x":[1]}}"#,
            r#"{"tool_name":"a \"b\"","arguments":{"x":[1]}}"#,
        ] {
            let (step, request) = read(action);
            let expected = json!({"name": "a \"b\"", "arguments": {"x": [1]}});
            assert_eq!((&request["method"], &request["params"]), (&json!("tools/call"), &expected));
            let answer = r#"{"jsonrpc":"2.0","id":1,"result":{"data":7}}"#;
            let seen_there = seen(step.outcome(Outcome::ToolResult(answer.into())));
            let observation: Value = serde_json::from_str(&seen_there).unwrap();
            assert_eq!(observation["result"], json!({"data": 7}));
            assert_eq!(
                (&observation["tool_name"], &observation["error"]),
                (&json!("a \"b\""), &Value::Null)
            );
            let raised = Failure::kept(FailureKind::Environment, "boom");
            let observation: Value =
                serde_json::from_str(&seen(step.outcome(Outcome::Failed(raised)))).unwrap();
            assert_eq!(observation["error"]["message"], "boom");
            let lost = Failure::lost(FailureKind::Disconnected, "gone");
            assert!(matches!(step.outcome(Outcome::Failed(lost)), Outcome::Failed(_)));
        }
    }

    #[test]
    fn other_actions_are_others() {
        for action in [r#"{"answer":"7"}"#, "{}", r#"{"type":"move"}"#, r#"{"tool_name":3}"#] {
            assert!(ToolStep::read(action.as_bytes()).unwrap().is_none(), "{action}");
        }
        assert!(ToolStep::read(b"[1").is_err());
    }
}
