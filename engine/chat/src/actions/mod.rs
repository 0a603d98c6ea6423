//! From generated text to what an environment takes.

mod calls;
mod json;
mod reasoning;
mod schema;
mod xml;

use std::collections::BTreeMap;

use bytes::Bytes;
use regex::{Regex, RegexBuilder};
use serde::Deserialize;
use serde_json::Value;

use crate::ToolCall;
use calls::Calls;
pub use reasoning::Reasoning;

/// How text becomes an action.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ActionOptions {
    /// What the text is read as.
    pub parser: Parser,
    /// The tags around reasoning, which is cut before the text is read. Empty ones cut nothing.
    #[serde(default = "think")]
    pub reasoning: [String; 2],
    /// How many bytes of text are read; a longer one is malformed.
    #[serde(default = "max_bytes")]
    pub max_bytes: usize,
}

fn think() -> [String; 2] {
    Reasoning::default().0
}

fn max_bytes() -> usize {
    1 << 20
}

/// What a text is read as.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Parser {
    /// The whole text is a field of the action.
    Text {
        /// The field.
        field: String,
        /// Whether whitespace around the text is cut.
        #[serde(default = "yes")]
        trim: bool,
    },
    /// The first JSON object in the text, in a fence or not, is the action.
    Json {
        /// What it must look like: `type`, `required`, `properties`, `items` and `enum` are looked at.
        #[serde(default)]
        schema: Option<Value>,
    },
    /// The text calls tools.
    ToolCalls {
        /// How calls are written.
        format: ToolFormat,
        /// The tools, by which names are checked and parameters typed. Without them all names are good.
        #[serde(default)]
        tools: Vec<Value>,
    },
    /// Named groups of a pattern are the action's fields.
    Regex {
        /// The pattern, of which the first match counts.
        pattern: String,
        /// The types of fields that are not texts.
        #[serde(default)]
        fields: RegexFields,
        /// Whether the last match counts instead.
        #[serde(default)]
        last: bool,
    },
}

/// Types of an action's fields by name.
pub type RegexFields = BTreeMap<String, FieldType>;

fn yes() -> bool {
    true
}

/// The type of an action's field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FieldType {
    /// A text.
    String,
    /// A whole number.
    Integer,
    /// A number.
    Number,
    /// `true` or `false`.
    Boolean,
}

/// How a family of models writes calls of tools.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToolFormat {
    /// `<tool_call>{"name": ..., "arguments": {...}}</tool_call>`, as Hermes and Qwen do.
    Hermes,
    /// `{"name": ..., "parameters": {...}}` and nothing else, as Llama 3 does.
    Llama,
    /// `[TOOL_CALLS] [{"name": ..., "arguments": {...}}]` or `[TOOL_CALLS]name[ARGS]{...}`.
    Mistral,
    /// `<function=name><parameter=key>value</parameter></function>`, as Qwen's coders do.
    Xml,
}

/// Why options make no parser.
#[derive(Debug, thiserror::Error)]
pub enum ActionsError {
    /// The pattern does not parse, or compiles to too much.
    #[error("the pattern is not a regular expression: {0}")]
    Pattern(#[from] regex::Error),
    /// The pattern names no groups.
    #[error(
        "the pattern has no named group, like (?<field>...), so that an action would have no field"
    )]
    NoGroup,
    /// A field has a type, but no group.
    #[error("the field {0:?} has a type, but the pattern has no group of that name")]
    NoSuchGroup(String),
}

/// What a text came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// An action: a JSON object.
    Action(Bytes),
    /// Calls of tools, at least one.
    ToolCalls(Vec<ToolCall>),
    /// A text that calls no tool, without its reasoning.
    Text(String),
    /// Not what was asked for.
    Malformed {
        /// What is wrong, in words that a model may be told.
        why: String,
    },
}

/// Turns generated text into actions.
#[derive(Debug)]
pub struct Actions {
    reasoning: Reasoning,
    max_bytes: usize,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Text { field: String, trim: bool },
    Json { schema: Option<Value> },
    Calls(Calls),
    Regex { pattern: Regex, fields: RegexFields, last: bool },
}

impl Actions {
    /// Compiles options.
    ///
    /// # Errors
    ///
    /// If a pattern does not fit.
    pub fn new(options: ActionOptions) -> Result<Self, ActionsError> {
        let kind = match options.parser {
            Parser::Text { field, trim } => Kind::Text { field, trim },
            Parser::Json { schema } => Kind::Json { schema },
            Parser::ToolCalls { format, tools } => Kind::Calls(Calls::new(format, &tools)),
            Parser::Regex { pattern, fields, last } => {
                let pattern = RegexBuilder::new(&pattern).size_limit(1 << 20).build()?;
                let groups: Vec<&str> = pattern.capture_names().flatten().collect();
                if groups.is_empty() {
                    return Err(ActionsError::NoGroup);
                }
                if let Some(name) = fields.keys().find(|name| !groups.contains(&name.as_str())) {
                    return Err(ActionsError::NoSuchGroup(name.clone()));
                }
                Kind::Regex { pattern, fields, last }
            }
        };
        Ok(Self { reasoning: Reasoning(options.reasoning), max_bytes: options.max_bytes, kind })
    }

    /// Reads a text. `turn` goes into the ids of calls that the model gave none, so that they differ
    /// over a conversation. No text makes it panic, and work is bounded by the text's length.
    #[must_use]
    pub fn parse(&self, text: &str, turn: u32) -> Parsed {
        if text.len() > self.max_bytes {
            let why = format!("the text has {} bytes; {} are read", text.len(), self.max_bytes);
            return Parsed::Malformed { why };
        }
        let Some(text) = self.reasoning.cut(text) else {
            return Parsed::Malformed { why: "the reasoning does not end".to_owned() };
        };
        let result = match &self.kind {
            Kind::Text { field, trim } => {
                let text = if *trim { text.trim() } else { &text };
                let fields = [(field.clone(), Value::from(text))].into_iter().collect();
                Ok(Parsed::Action(to_bytes(&Value::Object(fields))))
            }
            Kind::Json { schema } => json::first_object(&text).and_then(|found| {
                if let Some(schema) = schema {
                    schema::check(schema, &found.value)?;
                }
                Ok(Parsed::Action(Bytes::copy_from_slice(found.text.as_bytes())))
            }),
            Kind::Calls(calls) => calls.read(&text, turn),
            Kind::Regex { pattern, fields, last } => match_fields(pattern, fields, *last, &text),
        };
        result.unwrap_or_else(|why| Parsed::Malformed { why })
    }
}

fn to_bytes(value: &Value) -> Bytes {
    Bytes::from(value.to_string())
}

/// Matches that are looked at for the last one.
const MATCHES: usize = 1000;

fn match_fields(
    pattern: &Regex,
    fields: &RegexFields,
    last: bool,
    text: &str,
) -> Result<Parsed, String> {
    let mut found = pattern.captures_iter(text);
    let found = if last { found.take(MATCHES).last() } else { found.next() };
    let found = found.ok_or_else(|| format!("the text does not match {:?}", pattern.as_str()))?;
    let mut action = serde_json::Map::new();
    for name in pattern.capture_names().flatten() {
        let Some(group) = found.name(name) else { continue };
        let text = group.as_str();
        let kind = fields.get(name).copied().unwrap_or(FieldType::String);
        let value = match kind {
            FieldType::String => Some(Value::from(text)),
            FieldType::Integer => text.trim().parse::<i64>().ok().map(Value::from),
            FieldType::Number => schema::number(text.trim()),
            FieldType::Boolean => schema::boolean(text.trim()),
        };
        let value =
            value.ok_or_else(|| format!("{name} is {text:?}, which is no {}", kind.name()))?;
        action.insert(name.to_owned(), value);
    }
    Ok(Parsed::Action(to_bytes(&Value::Object(action))))
}

impl FieldType {
    fn name(self) -> &'static str {
        match self {
            Self::String => "text",
            Self::Integer => "whole number",
            Self::Number => "number",
            Self::Boolean => "truth value",
        }
    }
}
