//! Chat templates, rendered as transformers' `apply_chat_template` renders them.

mod clock;
mod python;

use std::collections::BTreeMap;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Rest};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, Value};
use regex::Regex;

use crate::{Json, Message};

/// Why a template gave no text.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// It does not parse.
    #[error("the chat template does not parse: {0}")]
    Syntax(String),
    /// It refuses the messages, with `raise_exception`.
    #[error("the chat template refuses these messages: {0}")]
    Refused(String),
    /// It failed while it was rendered.
    #[error("the chat template failed: {0}")]
    Failed(String),
}

/// A chat template, compiled.
pub struct Template {
    environment: Environment<'static>,
    source: String,
    specials: BTreeMap<String, String>,
}

/// Under which name the one template is known to its environment.
const NAME: &str = "chat";

/// What `raise_exception` says begins with it, so that a refusal is told from a mistake.
const RAISED: &str = "raised: ";

impl Template {
    /// Compiles a template. `specials` are the tokenizer's special tokens by name (`bos_token`, ...),
    /// which templates know as variables. The date that `strftime_now` gives is the one of this call
    /// (UTC), so that every rendering of a run has the same; [`Template::set_time`] sets another.
    ///
    /// # Errors
    ///
    /// If it does not parse.
    pub fn new(source: &str, specials: BTreeMap<String, String>) -> Result<Self, TemplateError> {
        let mut environment =
            environment().map_err(|error| TemplateError::Syntax(describe(&error)))?;
        environment.add_function("raise_exception", raise);
        let mut template = Self { environment, source: source.to_owned(), specials };
        template.set_time(clock::now());
        template
            .environment
            .add_template_owned(NAME, without_generation_tags(source))
            .map_err(|error| TemplateError::Syntax(describe(&error)))?;
        Ok(template)
    }

    /// Sets what `strftime_now` gives, in seconds since 1970, UTC.
    pub fn set_time(&mut self, seconds: i64) {
        self.environment
            .add_function("strftime_now", move |format: &str| clock::format(format, seconds));
    }

    /// The text it was compiled from.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Renders messages, with `add_generation_prompt`, tools and documents if any, and variables of
    /// the caller's, which come before the tokenizer's special tokens where names collide.
    ///
    /// # Errors
    ///
    /// If the template refuses the messages, or fails.
    pub fn render(
        &self,
        messages: &[Message],
        generation_prompt: bool,
        tools: Option<&Json>,
        variables: &BTreeMap<String, Json>,
    ) -> Result<String, TemplateError> {
        let messages: Value = messages.iter().map(Message::to_value).collect();
        self.render_values(messages, generation_prompt, tools, variables)
    }

    pub(crate) fn render_values(
        &self,
        messages: Value,
        generation_prompt: bool,
        tools: Option<&Json>,
        variables: &BTreeMap<String, Json>,
    ) -> Result<String, TemplateError> {
        let mut context: BTreeMap<&str, Value> = BTreeMap::new();
        // transformers always passes these two, as None where there are none.
        context.insert("documents", Value::from(()));
        for (name, token) in &self.specials {
            context.insert(name, Value::from(token.as_str()));
        }
        for (name, value) in variables {
            context.insert(name, value.0.clone());
        }
        context.insert("tools", tools.map_or(Value::from(()), |tools| tools.0.clone()));
        context.insert("messages", messages);
        context.insert("add_generation_prompt", Value::from(generation_prompt));
        let template = self.environment.get_template(NAME);
        template.and_then(|template| template.render(Value::from(context))).map_err(|error| {
            match error.detail().and_then(|detail| detail.strip_prefix(RAISED)) {
                Some(why) => TemplateError::Refused(why.to_owned()),
                None => TemplateError::Failed(describe(&error)),
            }
        })
    }
}

/// An engine with Python's ways.
pub(crate) fn environment() -> Result<Environment<'static>, Error> {
    let mut environment = Environment::new();
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_unknown_method_callback(python::method);
    environment.set_formatter(python::write);
    environment.add_test("iterable", python::is_iterable);
    environment.add_test("sequence", python::is_sequence);
    environment.add_filter("tojson", python::to_json_filter);
    environment.add_filter("string", python::to_text);
    Ok(environment)
}

fn raise(Rest(arguments): Rest<Value>, _: Kwargs) -> Result<Value, Error> {
    let why = arguments.first().map(python::to_text).unwrap_or_default();
    Err(Error::new(ErrorKind::InvalidOperation, format!("{RAISED}{why}")))
}

/// transformers marks with `{% generation %}` which text is the assistant's. That mask is ours to know;
/// what is left of the tags is a scope.
fn without_generation_tags(source: &str) -> String {
    let Ok(tags) = Regex::new(r"\{%([-+]?)(\s*)(end)?generation(\s*)([-+]?)%\}") else {
        return source.to_owned();
    };
    tags.replace_all(source, "{%$1$2${3}with$4$5%}").into_owned()
}

/// An error with its line and what caused it.
pub(crate) fn describe(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
