//! What is asked for.

use std::{fmt, sync::Arc};

/// Names a generation to its channel; unique among those under way there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "envmill-{}", self.0)
    }
}

/// One sample of one prompt.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// Its name.
    pub id: RequestId,
    /// Token ids, shape `[P]`, at least one.
    pub prompt: Arc<[u32]>,
    /// For channels that speak text only: the conversation, as a JSON array of messages. They need no prompt;
    /// the others look at that only.
    pub messages: Option<Arc<str>>,
    /// How to sample; many requests share one.
    pub sampling: Arc<Sampling>,
    /// At most so many tokens are sampled, at least 1.
    pub max_tokens: u32,
    /// Makes the same prompt give the same tokens, as far as the engine is deterministic.
    pub seed: Option<u64>,
    /// Requests with the same key share a beginning: they are best served where it is cached.
    pub affinity: Option<u64>,
    /// When chunks are wanted.
    pub deliver: Deliver,
}

/// When a generation's chunks are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Deliver {
    /// One chunk, at the end: the cheapest.
    #[default]
    Whole,
    /// As they are sampled, where the channel can: partial results survive the loss of the engine.
    Streamed,
}

/// How to sample. Defaults are those of a policy in training: the model's own distribution.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// 0: always the most likely token.
    pub temperature: f32,
    /// Sample among the most likely tokens that have this much probability together; 1: all.
    pub top_p: f32,
    /// Sample among so many most likely tokens; `None`: all.
    pub top_k: Option<u32>,
    /// Sample only among tokens with at least this share of the most likely one's probability.
    pub min_p: f32,
    /// Before so many tokens nothing ends the generation.
    pub min_tokens: u32,
    /// Token ids that end the generation; they are its last token.
    pub stop_token_ids: Vec<u32>,
    /// Texts that end the generation.
    pub stop: Vec<String>,
    /// The model's own end-of-turn token does not end the generation.
    pub ignore_eos: bool,
    /// Log-probabilities are wanted.
    pub logprobs: bool,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_p: 1.0,
            top_k: None,
            min_p: 0.0,
            min_tokens: 0,
            stop_token_ids: Vec::new(),
            stop: Vec::new(),
            ignore_eos: false,
            logprobs: true,
        }
    }
}
