//! Messages of a conversation, and their JSON in the shape that OpenAI's API made common.

use indexmap::IndexMap;
use minijinja::Value;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// One message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// Who speaks: `system`, `user`, `assistant`, `tool`, or what else the template knows.
    pub role: String,
    /// What is said. `None` is JSON's `null`, as an assistant has it that only calls tools.
    pub content: Option<String>,
    /// What was thought before it, where that is kept apart from the content.
    pub reasoning: Option<String>,
    /// The tools that an assistant calls.
    pub tool_calls: Vec<ToolCall>,
    /// Which call a tool answers.
    pub tool_call_id: Option<String>,
    /// The name of the speaker or of the tool.
    pub name: Option<String>,
}

/// One call of a tool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ToolCall {
    /// Names the call among those of its conversation; empty if the model gave none.
    pub id: String,
    /// The tool.
    pub name: String,
    /// Its arguments, as JSON: an object, if the model did as it was told.
    pub arguments: String,
}

/// Why something is no message.
#[derive(Debug, thiserror::Error)]
pub enum MessageError {
    /// It is not JSON of the shape.
    #[error("not a message: {0}")]
    Shape(#[from] serde_json::Error),
    /// A part of the content is not text.
    #[error("a message has a part of type {0:?}; only \"text\" is understood")]
    Part(String),
}

impl Message {
    /// A message of a role.
    #[must_use]
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self { role: role.into(), content: Some(content.into()), ..Self::default() }
    }

    /// A message of the system.
    #[must_use]
    pub fn system(content: impl Into<String>) -> Self {
        Self::new("system", content)
    }

    /// A message of the user.
    #[must_use]
    pub fn user(content: impl Into<String>) -> Self {
        Self::new("user", content)
    }

    /// A message of the model.
    #[must_use]
    pub fn assistant(content: impl Into<String>) -> Self {
        Self::new("assistant", content)
    }

    /// What a tool answered to a call.
    #[must_use]
    pub fn tool(call: &ToolCall, content: impl Into<String>) -> Self {
        let mut message = Self::new("tool", content);
        message.tool_call_id = Some(call.id.clone()).filter(|id| !id.is_empty());
        message.name = Some(call.name.clone());
        message
    }

    /// Reads a message. Content may be a text, `null`, or parts of type `text`, which are joined.
    ///
    /// # Errors
    ///
    /// If it is not of the shape, or has parts that are not text.
    pub fn from_json(text: &str) -> Result<Self, MessageError> {
        serde_json::from_str::<Wire>(text)?.try_into()
    }

    /// Reads a list of messages.
    ///
    /// # Errors
    ///
    /// If one is not of the shape.
    pub fn list_from_json(text: &str) -> Result<Vec<Self>, MessageError> {
        serde_json::from_str::<Vec<Wire>>(text)?.into_iter().map(TryInto::try_into).collect()
    }

    /// Writes it. A call's arguments are a text with JSON in it, as the shape has it.
    #[must_use]
    pub fn to_json(&self) -> String {
        let calls = self.tool_calls.iter().map(|call| WireCall {
            id: Some(call.id.clone()).filter(|id| !id.is_empty()),
            kind: Some("function".to_owned()),
            function: WireFunction {
                name: call.name.clone(),
                arguments: serde_json::value::to_raw_value(&call.arguments).ok(),
            },
        });
        let wire = Wire {
            role: self.role.clone(),
            content: self.content.clone().map(WireContent::Text),
            reasoning_content: self.reasoning.clone(),
            reasoning: None,
            tool_calls: Some(calls.collect::<Vec<_>>()).filter(|calls| !calls.is_empty()),
            tool_call_id: self.tool_call_id.clone(),
            name: self.name.clone(),
        };
        // Plain texts always have a JSON form.
        serde_json::to_string(&wire).unwrap_or_default()
    }

    /// Whether the model said it.
    #[must_use]
    pub fn is_assistant(&self) -> bool {
        self.role == "assistant"
    }

    /// The names of the tools that it calls, with commas between, as records have them.
    #[must_use]
    pub fn tools_called(&self) -> String {
        let names: Vec<_> = self.tool_calls.iter().map(|call| call.name.as_str()).collect();
        names.join(",")
    }

    /// Bytes that it takes in memory, its texts included.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let texts = [&self.content, &self.reasoning, &self.tool_call_id, &self.name];
        let texts = texts.into_iter().flatten().map(String::len).sum::<usize>();
        let calls = self.tool_calls.iter().map(|call| {
            size_of::<ToolCall>() + call.id.len() + call.name.len() + call.arguments.len()
        });
        size_of::<Self>() + self.role.len() + texts + calls.sum::<usize>()
    }

    /// As templates see it: arguments are objects there, not texts.
    pub(crate) fn to_value(&self) -> Value {
        let mut fields = Fields::with_capacity(6);
        fields.insert("role".into(), Value::from(self.role.as_str()));
        fields
            .insert("content".into(), self.content.as_deref().map_or(Value::from(()), Value::from));
        if let Some(reasoning) = &self.reasoning {
            fields.insert("reasoning_content".into(), Value::from(reasoning.as_str()));
        }
        if !self.tool_calls.is_empty() {
            fields.insert(
                "tool_calls".into(),
                self.tool_calls.iter().map(ToolCall::to_value).collect(),
            );
        }
        if let Some(id) = &self.tool_call_id {
            fields.insert("tool_call_id".into(), Value::from(id.as_str()));
        }
        if let Some(name) = &self.name {
            fields.insert("name".into(), Value::from(name.as_str()));
        }
        Value::from_object(fields)
    }
}

/// An object whose keys keep their order: a template may write all of it.
type Fields = IndexMap<Value, Value>;

impl ToolCall {
    fn to_value(&self) -> Value {
        let mut function = Fields::with_capacity(2);
        function.insert("name".into(), Value::from(self.name.as_str()));
        let arguments = serde_json::from_str::<Value>(&self.arguments);
        let text = || Value::from(self.arguments.as_str());
        function.insert("arguments".into(), arguments.unwrap_or_else(|_| text()));
        let mut call = Fields::with_capacity(3);
        if !self.id.is_empty() {
            call.insert("id".into(), Value::from(self.id.as_str()));
        }
        call.insert("type".into(), Value::from("function"));
        call.insert("function".into(), Value::from_object(function));
        Value::from_object(call)
    }
}

#[derive(Serialize, Deserialize)]
struct Wire {
    role: String,
    content: Option<WireContent>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_calls: Option<Vec<WireCall>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_call_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum WireContent {
    Text(String),
    Parts(Vec<WirePart>),
}

#[derive(Serialize, Deserialize)]
struct WirePart {
    #[serde(rename = "type")]
    kind: String,
    text: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct WireCall {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<String>,
    function: WireFunction,
}

#[derive(Serialize, Deserialize)]
struct WireFunction {
    name: String,
    arguments: Option<Box<RawValue>>,
}

impl TryFrom<Wire> for Message {
    type Error = MessageError;

    fn try_from(wire: Wire) -> Result<Self, MessageError> {
        let content = match wire.content {
            None => None,
            Some(WireContent::Text(text)) => Some(text),
            Some(WireContent::Parts(parts)) => {
                let mut text = String::new();
                for part in parts {
                    match part.text {
                        Some(piece) if part.kind == "text" => text.push_str(&piece),
                        _ => return Err(MessageError::Part(part.kind)),
                    }
                }
                Some(text)
            }
        };
        let calls = wire.tool_calls.unwrap_or_default().into_iter();
        Ok(Self {
            role: wire.role,
            content,
            reasoning: wire.reasoning_content.or(wire.reasoning),
            tool_calls: calls.map(Into::into).collect(),
            tool_call_id: wire.tool_call_id,
            name: wire.name,
        })
    }
}

impl From<WireCall> for ToolCall {
    fn from(call: WireCall) -> Self {
        // A text holds the JSON; some write the object itself.
        let arguments = call.function.arguments.map_or_else(
            || "{}".to_owned(),
            |raw| {
                serde_json::from_str::<String>(raw.get()).unwrap_or_else(|_| raw.get().to_owned())
            },
        );
        Self { id: call.id.unwrap_or_default(), name: call.function.name, arguments }
    }
}
