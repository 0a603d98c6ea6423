//! What is asked for.

use std::{fmt, sync::Arc};

use super::Sampling;

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
