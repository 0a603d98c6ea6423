//! From an observation to what a model is told.

use std::borrow::Cow;
use std::collections::BTreeMap;

use minijinja::{Environment, UndefinedBehavior, Value};
use serde::Deserialize;

use crate::template;
use crate::{Json, Message};

/// How observations are told.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ObserveOptions {
    /// A Jinja template, with `observation`, `reward` and `turn`. Without one, the observation's text
    /// is told, if it has one, and else its JSON.
    pub template: Option<String>,
    /// The role of the message.
    pub role: String,
    /// The longest text in characters; of a longer one, the middle is left out.
    pub max_chars: usize,
}

impl Default for ObserveOptions {
    fn default() -> Self {
        Self { template: None, role: "user".to_owned(), max_chars: 32_768 }
    }
}

/// Why an observation could not be told.
#[derive(Debug, thiserror::Error)]
pub enum ObserveError {
    /// The template does not parse.
    #[error("the template for observations does not parse: {0}")]
    Template(String),
    /// The observation is not JSON.
    #[error("the observation is not JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// The template failed at this observation.
    #[error(
        "the template for observations failed: {0}; does the observation have the fields it names?"
    )]
    Render(String),
}

/// Fields that hold what is meant to be read.
const TEXTS: [&str; 6] = ["text", "message", "prompt", "content", "observation", "response"];
/// The name of the one template.
const NAME: &str = "observation";

/// Turns observations into messages.
pub struct Observe {
    environment: Option<Environment<'static>>,
    role: String,
    max_chars: usize,
}

impl Observe {
    /// Compiles options.
    ///
    /// # Errors
    ///
    /// If the template does not parse.
    pub fn new(options: ObserveOptions) -> Result<Self, ObserveError> {
        let environment = match options.template {
            None => None,
            Some(source) => {
                let fail =
                    |error: minijinja::Error| ObserveError::Template(template::describe(&error));
                let mut environment = template::environment().map_err(fail)?;
                // A field that is not there is a mistake in the template, and not an empty text.
                environment.set_undefined_behavior(UndefinedBehavior::SemiStrict);
                environment.add_template_owned(NAME, source).map_err(fail)?;
                Some(environment)
            }
        };
        Ok(Self { environment, role: options.role, max_chars: options.max_chars })
    }

    /// The message that tells an observation: JSON, as environments give it.
    ///
    /// # Errors
    ///
    /// If it is not JSON, or the template fails.
    pub fn message(
        &self,
        observation: &str,
        reward: Option<f64>,
        turn: u32,
    ) -> Result<Message, ObserveError> {
        Ok(Message::new(&*self.role, self.text(observation, reward, turn)?))
    }

    /// The text alone.
    ///
    /// # Errors
    ///
    /// If it is not JSON, or the template fails.
    pub fn text(
        &self,
        observation: &str,
        reward: Option<f64>,
        turn: u32,
    ) -> Result<String, ObserveError> {
        let value = Json::parse(observation)?.0;
        let text = match &self.environment {
            None => default_text(observation, &value),
            Some(environment) => {
                let context: BTreeMap<&str, Value> = [
                    ("observation", value),
                    ("reward", reward.map_or(Value::from(()), Value::from)),
                    ("turn", Value::from(turn)),
                ]
                .into();
                let rendered = environment
                    .get_template(NAME)
                    .and_then(|template| template.render(Value::from(context)));
                rendered.map_err(|error| ObserveError::Render(template::describe(&error)))?
            }
        };
        Ok(shorten(&text, self.max_chars).into_owned())
    }
}

fn default_text(observation: &str, value: &Value) -> String {
    let field = |name: &&str| value.get_attr(name).ok()?.as_str().map(str::to_owned);
    match value.as_str() {
        Some(text) => text.to_owned(),
        None => TEXTS.iter().find_map(field).unwrap_or_else(|| compact(observation)),
    }
}

/// JSON without the whitespace between its parts, and otherwise as it was written.
fn compact(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    let (mut is_quoted, mut is_escaped) = (false, false);
    for char in json.chars() {
        if is_quoted {
            is_quoted = is_escaped || char != '"';
            is_escaped = !is_escaped && char == '\\';
        } else if char.is_ascii_whitespace() {
            continue;
        } else {
            is_quoted = char == '"';
        }
        out.push(char);
    }
    out
}

/// A text with its middle left out, if it is too long. The marker comes on top.
fn shorten(text: &str, max_chars: usize) -> Cow<'_, str> {
    if text.len() <= max_chars {
        return text.into();
    }
    let count = text.chars().count();
    if count <= max_chars {
        return text.into();
    }
    let head = max_chars.div_ceil(2);
    let byte = |chars: usize| text.char_indices().nth(chars).map_or(text.len(), |(at, _)| at);
    let (head, tail) = (&text[..byte(head)], &text[byte(count - (max_chars - head))..]);
    format!("{head}\n[... {} characters left out ...]\n{tail}", count - max_chars).into()
}
