//! What the conversations of a job share: the model, the template, tools and settings.

use std::collections::BTreeMap;
use std::sync::Arc;

use minijinja::Value;
use serde::Deserialize;

use crate::cache::Cache;
use crate::delta;
use crate::ending::Closing;
use crate::window::{Markers, Window};
use crate::{Conversation, Json, Message, Model, Template, TemplateError, TokenError, probe};

/// How a job's conversations are rendered.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ChatOptions {
    /// Which of the model's templates; without it the usual one.
    pub template: Option<String>,
    /// A template of one's own, instead of the model's.
    pub template_source: Option<String>,
    /// The tools that the model may call, as templates want them: a list.
    pub tools: Vec<Json>,
    /// Further variables of the template, such as `enable_thinking`.
    pub variables: BTreeMap<String, Json>,
    /// What is done where the template would write the past differently than it was seen.
    pub rewrites: Rewrites,
    /// How many bytes of first prompts are kept, for members of a group to share.
    pub prompt_cache_bytes: usize,
}

impl Default for ChatOptions {
    fn default() -> Self {
        Self {
            template: None,
            template_source: None,
            tools: Vec::new(),
            variables: BTreeMap::new(),
            rewrites: Rewrites::default(),
            prompt_cache_bytes: 16 << 20,
        }
    }
}

/// What is done where the template would write the past differently than it was seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rewrites {
    /// The conversation forks: the model sees what the template writes, in fresh ids.
    #[default]
    Fork,
    /// It forks, unless only whitespace around the model's words differs: those stay as they were said.
    KeepWhitespace,
    /// What was seen stays, whatever the template would write.
    Keep,
}

/// How it is known what may be appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Continuity {
    /// From a short condensed history: the template was probed, and answers on it as on full ones.
    Windowed,
    /// By rendering the whole history at each turn, because probing found a difference.
    Compared {
        /// The difference.
        why: String,
    },
}

/// Why a chat or a conversation cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum ChatError {
    /// The model has no such template.
    #[error(
        "the model's folder has {found}; add a chat_template.jinja to it, or give a template_source"
    )]
    NoTemplate {
        /// What it has.
        found: String,
    },
    /// The template fails or refuses the messages.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// The tokenizer fails.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// Something was observed before the model has spoken.
    #[error(
        "messages are observed after the model has spoken, and it has not since the last prompt"
    )]
    OutOfTurn,
    /// Nothing was observed.
    #[error("no messages were given")]
    NoMessages,
}

/// A model with its template, tools and settings. Conversations of many threads share one.
pub struct Chat {
    pub(crate) model: Arc<Model>,
    template: Template,
    tools: Option<Json>,
    /// The first tool alone: in condensed histories it stands for all.
    few_tools: Option<Json>,
    variables: BTreeMap<String, Json>,
    pub(crate) rewrites: Rewrites,
    pub(crate) markers: Markers,
    pub(crate) closing: Closing,
    pub(crate) continuity: Continuity,
    prompts: Cache<[u32]>,
    windows: Cache<str>,
}

/// Bytes of condensed prompts that are kept.
const WINDOW_CACHE: usize = 1 << 20;

impl Chat {
    /// Compiles the template and probes it with made-up conversations, which takes some milliseconds.
    ///
    /// # Errors
    ///
    /// If the model has no such template, or it does not parse.
    pub fn new(model: Arc<Model>, options: ChatOptions) -> Result<Self, ChatError> {
        let name = options.template.as_deref();
        let source = options.template_source.as_deref();
        let source = source.or_else(|| model.template(name, !options.tools.is_empty()));
        let source = source.ok_or_else(|| ChatError::NoTemplate {
            found: match name {
                None => "no chat template".to_owned(),
                Some(name) => {
                    let others: Vec<_> = model.templates().collect();
                    format!("no chat template {name:?} (but {others:?})")
                }
            },
        })?;
        let template = Template::new(source, model.specials().clone())?;
        Self::with_template(model, template, options)
    }

    /// The same with a template that was compiled before, for one with a date of its own.
    ///
    /// # Errors
    ///
    /// If the tokenizer fails.
    pub fn with_template(
        model: Arc<Model>,
        template: Template,
        options: ChatOptions,
    ) -> Result<Self, ChatError> {
        let list = |tools: &[Json]| {
            let tools: Value = tools.iter().map(|tool| tool.0.clone()).collect();
            Json(tools)
        };
        let tools = (!options.tools.is_empty()).then(|| list(&options.tools));
        let few_tools = tools.as_ref().map(|_| list(&options.tools[..1]));
        let mut chat = Self {
            markers: Markers::of(template.source(), &model.special_texts()),
            model,
            template,
            tools,
            few_tools,
            variables: options.variables,
            rewrites: options.rewrites,
            closing: Closing::default(),
            continuity: Continuity::Windowed,
            prompts: Cache::new(options.prompt_cache_bytes),
            windows: Cache::new(WINDOW_CACHE),
        };
        chat.closing = chat.find_closing()?;
        if let Some(why) = probe::differs(&chat) {
            chat.continuity = Continuity::Compared { why };
        }
        Ok(chat)
    }

    /// Begins a conversation: renders and tokenises its first prompt. Conversations that begin with the
    /// same text share the tokenisation.
    ///
    /// # Errors
    ///
    /// If the template refuses the messages.
    pub fn begin(self: &Arc<Self>, messages: Vec<Message>) -> Result<Conversation, ChatError> {
        if messages.is_empty() {
            return Err(ChatError::NoMessages);
        }
        let text = self.render(&messages)?;
        let ids = self.prompts.get(&text, || self.model.encode(&text).map(Arc::from))?;
        Ok(Conversation::new(self.clone(), messages, &ids, text))
    }

    /// A conversation whose prompt a model has seen as these ids, whatever the template would write for its
    /// messages now.
    ///
    /// # Errors
    ///
    /// If the template refuses the messages.
    pub fn resume(
        self: &Arc<Self>,
        messages: Vec<Message>,
        prompt: &[u32],
    ) -> Result<Conversation, ChatError> {
        if messages.is_empty() {
            return Err(ChatError::NoMessages);
        }
        let text = self.render(&messages)?;
        Ok(Conversation::new(self.clone(), messages, prompt, text))
    }

    /// How it is known what may be appended.
    #[must_use]
    pub fn continuity(&self) -> &Continuity {
        &self.continuity
    }

    /// The model.
    #[must_use]
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The text that the template closes the model's turns with; empty if it has none.
    #[must_use]
    pub fn closing(&self) -> &str {
        &self.closing.text
    }

    /// Renders a whole history with a generation prompt.
    ///
    /// # Errors
    ///
    /// If the template refuses the messages.
    pub fn render(&self, messages: &[Message]) -> Result<String, ChatError> {
        Ok(self.template.render(messages, true, self.tools.as_ref(), &self.variables)?)
    }

    /// Renders a condensed history, which is often the same as one before.
    pub(crate) fn render_window(&self, window: &Window) -> Result<Arc<str>, ChatError> {
        self.windows
            .get(&window.key(), || Ok(self.render_few(window.messages().into(), true)?.into()))
    }

    /// Renders a condensed history with a round behind it.
    pub(crate) fn render_round(
        &self,
        window: &Window,
        said: &Message,
        after: &[Message],
    ) -> Result<String, ChatError> {
        let mut messages = window.messages();
        messages.push(said.to_value());
        messages.extend(after.iter().map(Message::to_value));
        self.render_few(messages.into(), true)
    }

    /// Renders a condensed history with the model's words behind it, and nothing behind those.
    pub(crate) fn render_ended(
        &self,
        window: &Window,
        said: &Message,
    ) -> Result<String, ChatError> {
        let mut messages = window.messages();
        messages.push(said.to_value());
        self.render_few(messages.into(), false)
    }

    fn render_few(&self, messages: Value, generation_prompt: bool) -> Result<String, ChatError> {
        let tools = self.few_tools.as_ref();
        Ok(self.template.render_values(messages, generation_prompt, tools, &self.variables)?)
    }

    /// What stands behind the model's words whether or not something follows. Templates that refuse
    /// every made-up conversation are taken to close turns with nothing; their ends are found by id.
    fn find_closing(&self) -> Result<Closing, ChatError> {
        let said = Message::assistant(delta::SENTINEL);
        for head in [vec![Message::user("x")], vec![Message::system("x"), Message::user("x")]] {
            for role in ["user", "tool"] {
                let mut messages = head.clone();
                messages.push(said.clone());
                let value = |messages: &[Message]| messages.iter().map(Message::to_value).collect();
                let Ok(ended) = self.render_few(value(&messages), false) else { continue };
                messages.push(Message::new(role, "x"));
                let Ok(followed) = self.render_few(value(&messages), true) else { continue };
                let (Some(ended), Some(followed)) =
                    (delta::behind(&ended), delta::behind(&followed))
                else {
                    continue;
                };
                let mut ids = self.model.encode_behind(ended)?;
                let followed = self.model.encode_behind(followed)?;
                ids.truncate(ids.iter().zip(&followed).take_while(|(a, b)| a == b).count());
                let text = self.model.decode_behind(&ids)?;
                let is_special = ids.first().is_some_and(|id| self.model.is_added(*id));
                return Ok(Closing { text, ids, is_special });
            }
        }
        Ok(Closing::default())
    }
}
