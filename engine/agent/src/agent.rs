//! What all conversations of a job share.

use std::{
    collections::HashMap,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use envmill_chat::{
    Actions, ActionsError, Chat, ChatError, ChatOptions, LoadError, Model, Observe, ObserveError,
    Reasoning,
};
use envmill_inference::{Inference, Sampling};
use serde::Deserialize;

use crate::{AgentCounts, AgentOptions, Script};

/// An agent: a model's templates and tokenizer, how it is shown observations, and how it acts. Shared by
/// all episodes that it plays.
pub struct Agent {
    pub(crate) options: AgentOptions,
    /// None where the channel speaks text only.
    pub(crate) chat: Option<Arc<Chat>>,
    model: Option<Arc<Model>>,
    pub(crate) observe: Observe,
    /// None where code says what comes of words.
    pub(crate) actions: Option<Actions>,
    pub(crate) script: Option<Arc<dyn Script>>,
    pub(crate) reasoning: Reasoning,
    /// What ends reasoning that is cut short.
    pub(crate) reasoning_end: String,
    pub(crate) engine: Arc<dyn Inference>,
    pub(crate) sampling: Arc<Sampling>,
    /// The same for records.
    pub(crate) sampling_json: Bytes,
    pub(crate) context_tokens: u32,
    /// Chats with tools that environments said they have, by those tools.
    chats: Mutex<HashMap<String, Arc<Chat>>>,
    pub(crate) counts: Arc<AgentCounts>,
}

/// Why there is no agent.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The model's folder cannot be used.
    #[error(transparent)]
    Model(#[from] LoadError),
    /// Its template cannot.
    #[error(transparent)]
    Chat(#[from] ChatError),
    /// The options for actions cannot.
    #[error("action: {0}")]
    Actions(#[from] ActionsError),
    /// There are none, and no code.
    #[error("action: it is missing; it says how text becomes an action")]
    NoActions,
    /// Those for observations cannot.
    #[error("observation: {0}")]
    Observe(#[from] ObserveError),
    /// The channel cannot do what is asked.
    #[error("{0}")]
    Channel(&'static str),
}

/// Environments of one job say so many different sets of tools; more are not kept.
const CHATS_MAX: usize = 64;

/// Where nobody says how long the context is.
const CONTEXT_TOKENS: u32 = 32_768;

impl Agent {
    /// An agent that plays with the model of a folder, sampled by `engine`. Where that speaks text only, there
    /// is no folder. With a script, that says what the model is told and what comes of its words, and what the
    /// options say of it is not looked at.
    ///
    /// # Errors
    ///
    /// What of the options or of the model cannot be used.
    pub fn new(
        options: AgentOptions,
        folder: Option<&Path>,
        engine: Arc<dyn Inference>,
        script: Option<Arc<dyn Script>>,
    ) -> Result<Self, AgentError> {
        let can = engine.capabilities();
        if !can.stop_strings && !options.sampling.stop.is_empty() {
            return Err(AgentError::Channel(
                "sampling.stop: this channel knows no strings that end a generation; use \
                 stop_token_ids, or vLLM over HTTP",
            ));
        }
        if !can.token_ids && options.tools.from_environment {
            return Err(AgentError::Channel(
                "tools.from_environment: a chat endpoint is not shown an environment's tools",
            ));
        }
        if !can.token_ids && options.limits.reasoning_tokens.is_some() {
            return Err(AgentError::Channel(
                "limits.reasoning_tokens: the reasoning of a chat endpoint cannot be cut short",
            ));
        }
        let folder = folder.filter(|_| can.token_ids);
        let model = folder.map(Model::load).transpose()?.map(Arc::new);
        let chat = model.clone().map(|it| Chat::new(it, options.chat.clone())).transpose()?;
        let chat = chat.map(Arc::new);
        if can.token_ids && chat.is_none() {
            return Err(AgentError::Channel("model: the folder of the model is not known"));
        }
        let context_tokens = options.limits.context_tokens;
        let context_tokens =
            context_tokens.or_else(|| context_of(folder?)).unwrap_or(CONTEXT_TOKENS);
        let actions = match &script {
            Some(_) => None,
            None => Some(Actions::new(options.action.clone().ok_or(AgentError::NoActions)?)?),
        };
        let reasoning = options.action.as_ref().map(|it| Reasoning(it.reasoning.clone()));
        let reasoning = reasoning.unwrap_or_default();
        let end = options.limits.reasoning_end.clone();
        let sampling = Arc::new(options.sampling.sampling());
        Ok(Self {
            observe: Observe::new(options.observation.clone())?,
            actions,
            script,
            reasoning_end: end.unwrap_or_else(|| format!("\n{}\n\n", reasoning.0[1])),
            reasoning,
            sampling_json: sampling.to_json(options.limits.turn_tokens).into(),
            sampling,
            options,
            chat,
            model,
            engine,
            context_tokens,
            chats: Mutex::default(),
            counts: Arc::default(),
        })
    }

    /// What this agent has done.
    #[must_use]
    pub fn counts(&self) -> Arc<AgentCounts> {
        Arc::clone(&self.counts)
    }

    /// The chat with these tools, each a JSON object as templates want it.
    pub(crate) fn chat_with(
        &self,
        tools: &[envmill_chat::Json],
        key: &str,
    ) -> Result<Arc<Chat>, ChatError> {
        let mut chats = self.chats.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(chat) = chats.get(key) {
            return Ok(Arc::clone(chat));
        }
        let options = ChatOptions { tools: tools.to_vec(), ..self.options.chat.clone() };
        let model = self.model.clone().ok_or(ChatError::NoMessages)?;
        let chat = Arc::new(Chat::new(model, options)?);
        if chats.len() < CHATS_MAX {
            chats.insert(key.to_owned(), Arc::clone(&chat));
        }
        Ok(chat)
    }
}

/// The context that a model's configuration speaks of.
fn context_of(folder: &Path) -> Option<u32> {
    #[derive(Deserialize)]
    struct Config {
        max_position_embeddings: Option<u32>,
        text_config: Option<Box<Config>>,
    }
    let text = std::fs::read_to_string(folder.join("config.json")).ok()?;
    let config: Config = serde_json::from_str(&text).ok()?;
    config.max_position_embeddings.or_else(|| config.text_config?.max_position_embeddings)
}
