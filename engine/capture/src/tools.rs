//! Calls of tools in what the model said.

use std::borrow::Cow;

use envmill_chat::{ActionOptions, Actions, Parsed, Parser, ToolCall, ToolFormat};
use serde_json::{Value, value::RawValue};

use crate::request::Calls;

/// Bytes of calls that are read; more are content.
const BYTES: usize = 1 << 20;

/// Before a JSON list of calls, in the format that has one.
const LIST: &str = "[TOOL_CALLS]";

/// What calls begin with: anywhere, and where nothing was said before. `None`: they are not looked for.
pub(crate) const fn begin(
    calls: &Calls,
    format: ToolFormat,
) -> Option<(&'static [&'static str], &'static [&'static str])> {
    Some(match (calls, format) {
        (Calls::None, _) => return None,
        (Calls::Listed, _) => (&[], &["["]),
        (Calls::Named(_), _) => (&[], &["{"]),
        (Calls::Written, ToolFormat::Hermes) => (&["<tool_call>"], &[]),
        (Calls::Written, ToolFormat::Llama) => (&["<|python_tag|>"], &["{"]),
        (Calls::Written, ToolFormat::Mistral) => (&[LIST], &[]),
        (Calls::Written, ToolFormat::Xml) => (&["<tool_call>", "<function="], &[]),
    })
}

/// Reads calls. `turn` makes their ids differ over an episode. `None`: they are none.
pub(crate) fn read(
    calls: &Calls,
    format: ToolFormat,
    tools: Option<&RawValue>,
    text: &str,
    turn: u32,
) -> Option<Vec<ToolCall>> {
    // What could be nothing but calls is a list of them, or one's arguments, whatever the model's own format.
    let (format, text) = match calls {
        Calls::None | Calls::Written => (format, Cow::Borrowed(text)),
        Calls::Listed => (ToolFormat::Mistral, Cow::Owned(format!("{LIST}{text}"))),
        Calls::Named(name) => {
            let name = Value::from(name.as_str());
            let list = format!("{LIST}[{{\"name\":{name},\"arguments\":{text}}}]");
            (ToolFormat::Mistral, Cow::Owned(list))
        }
    };
    let tools = tools.and_then(|it| serde_json::from_str::<Vec<Value>>(it.get()).ok());
    // First with the tools, whose parameters have types. A tool that there is not is for the harness to
    // complain of, so that the model can learn of it.
    let attempts = [tools.unwrap_or_default(), Vec::new()];
    attempts.into_iter().find_map(|tools| {
        let parser = Parser::ToolCalls { format, tools };
        let reasoning = [String::new(), String::new()];
        let actions = Actions::new(ActionOptions { parser, reasoning, max_bytes: BYTES }).ok()?;
        match actions.parse(&text, turn) {
            Parsed::ToolCalls(calls) => Some(calls),
            Parsed::Action(_) | Parsed::Text(_) | Parsed::Malformed { .. } => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_read_and_what_is_none_is_left() {
        let text = r#"<tool_call>{"name": "look", "arguments": {"at": "x"}}</tool_call>"#;
        let tools: Box<RawValue> =
            serde_json::from_str(r#"[{"type":"function","function":{"name":"other"}}]"#).unwrap();
        let written = |tools, text| read(&Calls::Written, ToolFormat::Hermes, tools, text, 3);
        let calls = written(Some(&*tools), text).unwrap();
        assert_eq!((calls[0].name.as_str(), calls[0].id.as_str()), ("look", "t00003c00"));
        assert_eq!(written(None, "<tool_call>what?"), None);
    }

    #[test]
    fn calls_that_had_to_be_made_are_read() {
        let listed = |text| read(&Calls::Listed, ToolFormat::Hermes, None, text, 3);
        let text =
            r#"[ {"name": "look", "parameters": {"at": "]"}},{"name":"wait","parameters":{}} ] "#;
        let calls = listed(text).unwrap();
        assert_eq!((&*calls[0].name, &*calls[0].arguments), ("look", r#"{"at": "]"}"#));
        assert_eq!((&*calls[1].name, &*calls[1].id), ("wait", "t00003c01"));
        assert_eq!(listed(r#"[{"name": "look", "para"#), None);
        let calls = Calls::Named("a \"b\"".to_owned());
        let named = |text| read(&calls, ToolFormat::Llama, None, text, 0);
        let call = &named(r#"{"at": 1}"#).unwrap()[0];
        assert_eq!((&*call.name, &*call.arguments), ("a \"b\"", r#"{"at": 1}"#));
        assert_eq!(named(r#"{"at": "#), None);
    }
}
