//! How harnesses are served.

use std::{collections::BTreeMap, time::Duration};

use envmill_chat::{ChatOptions, Json, Rewrites, ToolFormat};
use envmill_inference::Sampling;
use serde::Deserialize;

/// How harnesses are served.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CaptureOptions {
    /// What `/v1/models` calls the model. Calls may name any: harnesses name several, and all are this one.
    pub model: String,
    /// How many tokens a prompt and what is sampled behind it may have together.
    pub context_tokens: u32,
    /// At most so many tokens are sampled where a call does not say how many.
    pub max_tokens: Option<u32>,
    /// How the model writes calls of tools.
    pub tool_format: ToolFormat,
    /// The tags around reasoning, which is answered as `reasoning_content`. Empty ones: it is content.
    pub reasoning: [String; 2],
    /// What a call's `temperature`, `top_p` and the like are worth. A trainer that needs to know what was
    /// sampled from says no, and then all calls sample from the model's own distribution.
    pub sampling_of_calls: bool,
    /// Which of the model's templates, and a template of one's own, as in [`ChatOptions`].
    pub template: Option<String>,
    /// See `template`.
    pub template_source: Option<String>,
    /// Further variables of the template; a call's `chat_template_kwargs` come on top.
    pub variables: BTreeMap<String, Json>,
    /// What is done where the template would write the past differently than it was seen. By default what
    /// was seen stays, so that a conversation is one sequence of ids.
    pub rewrites: Rewrites,
    /// What bounds memory.
    pub limits: Limits,
}

impl Default for CaptureOptions {
    fn default() -> Self {
        Self {
            model: "envmill".to_owned(),
            context_tokens: 32_768,
            max_tokens: None,
            tool_format: ToolFormat::Hermes,
            reasoning: ["<think>", "</think>"].map(str::to_owned),
            sampling_of_calls: true,
            template: None,
            template_source: None,
            variables: BTreeMap::new(),
            rewrites: Rewrites::Keep,
            limits: Limits::default(),
        }
    }
}

impl CaptureOptions {
    /// What is sampled with, but for what a call asks for.
    pub(crate) fn sampling() -> Sampling {
        Sampling::default()
    }

    /// The options of the chats, without a call's own tools and variables.
    pub(crate) fn chat(&self) -> ChatOptions {
        ChatOptions {
            template: self.template.clone(),
            template_source: self.template_source.clone(),
            variables: self.variables.clone(),
            rewrites: self.rewrites,
            ..ChatOptions::default()
        }
    }
}

/// What bounds memory. The worst case is `open_episodes` times `episode_bytes`, and
/// `connections` times twice `body_bytes`; defaults are for a few hundred harnesses on one machine.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Episodes open at once; [`Capture::open`](crate::Capture::open) refuses more.
    pub open_episodes: usize,
    /// Connections at once; more wait to be accepted.
    pub connections: usize,
    /// Calls of one episode that are being answered at once; more are told to come later (429).
    pub calls_at_once: usize,
    /// Calls of one episode altogether; more are refused (403).
    pub calls: usize,
    /// What is kept of one episode: ids, conversations, requests and answers. When it is full, calls are
    /// refused (403).
    pub episode_bytes: usize,
    /// A request's body; longer ones are refused (413).
    pub body_bytes: usize,
    /// Of a call's request and of its answer, JSON of so many bytes is kept. Of a longer one only its
    /// length is.
    pub kept_bytes: usize,
    /// Messages in one call.
    pub messages: usize,
    /// Sets of tools and template variables whose templates are kept compiled, over all episodes.
    pub tool_sets: usize,
    /// How long the head of an HTTP request may take.
    #[serde(skip)]
    pub head_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            open_episodes: 4096,
            connections: 8192,
            calls_at_once: 256,
            calls: 4096,
            episode_bytes: 512 << 20,
            body_bytes: 16 << 20,
            kept_bytes: 1 << 20,
            messages: 4096,
            tool_sets: 64,
            head_timeout: Duration::from_secs(30),
        }
    }
}
