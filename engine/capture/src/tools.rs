//! Calls of tools in what the model said.

use envmill_chat::{ActionOptions, Actions, Parsed, Parser, ToolCall, ToolFormat};
use serde_json::{Value, value::RawValue};

/// Bytes of calls that are read; more are content.
const BYTES: usize = 1 << 20;

/// What calls begin with: anywhere, and where nothing was said before.
pub(crate) const fn begin(
    format: ToolFormat,
) -> (&'static [&'static str], &'static [&'static str]) {
    match format {
        ToolFormat::Hermes => (&["<tool_call>"], &[]),
        ToolFormat::Llama => (&["<|python_tag|>"], &["{"]),
        ToolFormat::Mistral => (&["[TOOL_CALLS]"], &[]),
        ToolFormat::Xml => (&["<tool_call>", "<function="], &[]),
    }
}

/// Reads calls. `turn` makes their ids differ over an episode. `None`: they are none.
pub(crate) fn read(
    format: ToolFormat,
    tools: Option<&RawValue>,
    text: &str,
    turn: u32,
) -> Option<Vec<ToolCall>> {
    let tools = tools.and_then(|it| serde_json::from_str::<Vec<Value>>(it.get()).ok());
    // First with the tools, whose parameters have types. A tool that there is not is for the harness to
    // complain of, so that the model can learn of it.
    let attempts = [tools.unwrap_or_default(), Vec::new()];
    attempts.into_iter().find_map(|tools| {
        let parser = Parser::ToolCalls { format, tools };
        let reasoning = [String::new(), String::new()];
        let actions = Actions::new(ActionOptions { parser, reasoning, max_bytes: BYTES }).ok()?;
        match actions.parse(text, turn) {
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
        let calls = read(ToolFormat::Hermes, Some(&tools), text, 3).unwrap();
        assert_eq!((calls[0].name.as_str(), calls[0].id.as_str()), ("look", "t00003c00"));
        assert_eq!(read(ToolFormat::Hermes, None, "<tool_call>what?", 0), None);
    }
}
