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
    /// How text becomes an action. Needed where there is no `code`.
    #[serde(default)]
    pub action: Option<ActionOptions>,
    /// Code that says what the model is told, and what comes of its words, in place of `observation`, `action`,
    /// `tools` and `malformed`.
    #[serde(default)]
    pub code: Option<CodeOptions>,
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
    /// Records have the conversation as messages, too. They say in text what steps and tokens have already,
    /// and take about as much memory as the text.
    #[serde(default = "yes")]
    pub messages: bool,
}

const fn yes() -> bool {
    true
}

/// An agent in code, as a file names it. See [`Script`](crate::Script) for one in Rust.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CodeOptions {
    /// A Python function, as `module:function`: a generator, of which each episode has its own, or one that
    /// answers a list of questions with a list of answers. `docs/agents.md` has both.
    pub python: String,
    /// How many processes run it. An episode stays with one.
    #[serde(default = "one")]
    pub processes: u32,
    /// A process that has not answered within this time is killed, and started again for later episodes.
    #[serde(default = "code_timeout_s")]
    pub timeout_s: f64,
}

const fn one() -> u32 {
    1
}

const fn code_timeout_s() -> f64 {
    60.0
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
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Tokens sampled in one generation.
    pub turn_tokens: u32,
    /// Tokens sampled in an episode; `None`: as many as there is context.
    pub episode_tokens: Option<u32>,
    /// Tokens of prompt and generation together; `None`: as the model's configuration says.
    pub context_tokens: Option<u32>,
    /// Tokens that the model may reason for in one turn (between the tags of `action.reasoning`), of those of
    /// the turn. One that reasons on is cut: its reasoning is ended with `reasoning_end`, which it has not
    /// sampled and is not trained on, and it says the rest. `None`: as many as there are for the turn.
    pub reasoning_tokens: Option<u32>,
    /// What ends reasoning that is cut; `None`: the tag that ends it, on a line of its own.
    pub reasoning_end: Option<String>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            turn_tokens: 1024,
            episode_tokens: None,
            context_tokens: None,
            reasoning_tokens: None,
            reasoning_end: None,
        }
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
