//! How an agent plays.

use envmill_chat::{ActionOptions, ChatOptions, ObserveOptions};
use envmill_inference::Sampling;
use serde::Deserialize;

/// How an agent plays, as a file says it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentOptions {
    /// The folder of the model: its tokenizer, its chat template, its configuration. Without it, the one
    /// that the inference engine says it serves.
    #[serde(default)]
    pub model: Option<String>,
    /// What is said to the model first, as the system's message. Without it there is none.
    #[serde(default)]
    pub system: Option<String>,
    /// How conversations are rendered.
    #[serde(default)]
    pub chat: ChatOptions,
    /// How observations are told.
    #[serde(default)]
    pub observation: ObserveOptions,
    /// How text becomes an action.
    pub action: ActionOptions,
    /// Tools of the environment.
    #[serde(default)]
    pub tools: ToolOptions,
    /// How to sample.
    #[serde(default)]
    pub sampling: SamplingOptions,
    /// What an episode may take.
    #[serde(default)]
    pub limits: Limits,
    /// What becomes of text that is no action.
    #[serde(default)]
    pub malformed: Malformed,
    /// Which generations are served at the same replica.
    #[serde(default)]
    pub affinity: Affinity,
}

/// Tools that an environment offers, as OpenEnv's tool environments do.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ToolOptions {
    /// Each episode's first step asks the environment for its tools (`{"type":"list_tools"}`), and the chat
    /// template shows them to the model.
    pub from_environment: bool,
    /// A text that calls no tool is the value of this field of a plain action. Without it, it is malformed.
    pub answer_field: Option<String>,
}

/// How to sample: [`Sampling`], as a file says it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SamplingOptions {
    /// See [`Sampling::temperature`].
    pub temperature: f32,
    /// See [`Sampling::top_p`].
    pub top_p: f32,
    /// See [`Sampling::top_k`].
    pub top_k: Option<u32>,
    /// See [`Sampling::min_p`].
    pub min_p: f32,
    /// See [`Sampling::min_tokens`].
    pub min_tokens: u32,
    /// See [`Sampling::stop_token_ids`].
    pub stop_token_ids: Vec<u32>,
    /// See [`Sampling::stop`].
    pub stop: Vec<String>,
    /// Chunks are asked for as they are sampled, so that a lost replica costs only what it had not sent.
    /// Costs CPU time for each token; worth it where generations are long.
    pub streamed: bool,
}

impl Default for SamplingOptions {
    fn default() -> Self {
        let Sampling { temperature, top_p, top_k, min_p, min_tokens, stop_token_ids, stop, .. } =
            Sampling::default();
        Self { temperature, top_p, top_k, min_p, min_tokens, stop_token_ids, stop, streamed: false }
    }
}

impl SamplingOptions {
    /// As requests have it.
    #[must_use]
    pub fn sampling(&self) -> Sampling {
        let Self { temperature, top_p, top_k, min_p, min_tokens, .. } = *self;
        let (stop_token_ids, stop) = (self.stop_token_ids.clone(), self.stop.clone());
        Sampling {
            temperature,
            top_p,
            top_k,
            min_p,
            min_tokens,
            stop_token_ids,
            stop,
            ..Sampling::default()
        }
    }
}

/// What an episode may take. One that has taken it is truncated as `max_tokens`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Tokens sampled in one generation.
    pub turn_tokens: u32,
    /// Tokens sampled in an episode; `None`: as many as there is context.
    pub episode_tokens: Option<u32>,
    /// Tokens of prompt and generation together; `None`: as the model's configuration says.
    pub context_tokens: Option<u32>,
}

impl Default for Limits {
    fn default() -> Self {
        Self { turn_tokens: 1024, episode_tokens: None, context_tokens: None }
    }
}

/// What becomes of text that is no action.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Malformed {
    /// What the model is told, with `{why}` for what was wrong. Without it, it is asked again as if it had
    /// said nothing, and what it said is recorded as `discarded`.
    pub reply: Option<String>,
    /// It is asked again so often in a row.
    pub again: u32,
    /// And then?
    pub then: Then,
}

impl Default for Malformed {
    fn default() -> Self {
        let reply = "That was no valid action ({why}). Try again.".to_owned();
        Self { reply: Some(reply), again: 2, then: Then::Truncate }
    }
}

/// What becomes of an episode whose model says no action.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Then {
    /// It is truncated (`malformed`), and what was played counts.
    Truncate,
    /// It fails.
    Fail,
}

/// Which generations are served at the same replica, where their common beginning is cached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Affinity {
    /// Those of an episode.
    #[default]
    Episode,
    /// Those of all episodes that begin with the same prompt, as members of a group do.
    Prompt,
    /// None: the least busy replica.
    None,
}
