//! What comes back.

use envmill_protocol::{PolicyVersion, VersionSpan};

use super::TopLogprobs;

/// A part of a generation.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Chunk {
    /// Sampled token ids, shape `[T]`.
    pub token_ids: Vec<u32>,
    /// Natural logarithms, shape `[T]`, or empty where none were asked for or known.
    pub logprobs: Vec<f32>,
    /// The most likely tokens at each of them, where they were asked for; else no places.
    pub top_logprobs: TopLogprobs,
    /// The version in force when the chunk arrived, or, where it is the only one, when it was asked for.
    pub version: PolicyVersion,
    /// Set on the last chunk.
    pub finished: Option<Finished>,
}

/// How a generation ended, and what is known of it then.
#[derive(Clone, Debug, PartialEq)]
pub struct Finished {
    /// Why.
    pub finish: Finish,
    /// Which versions sampled which of *all* the generation's tokens, as the engine says; empty where it
    /// does not.
    pub versions: Vec<VersionSpan>,
    /// The prompt as the engine counted it, where it says so.
    pub prompt: Option<Vec<u32>>,
    /// How many of the prompt's tokens were found in its prefix cache, where it says so.
    pub cached_tokens: Option<u32>,
    /// Microseconds that the request has waited before anything was computed for it, where that is known.
    pub queue_us: Option<u64>,
    /// The text, where the endpoint speaks text only ([`Capabilities::token_ids`](crate::Capabilities)).
    pub text: Option<String>,
}

impl Finished {
    /// A generation that ended so, and nothing else is known.
    #[must_use]
    pub const fn new(finish: Finish) -> Self {
        Self {
            finish,
            versions: Vec::new(),
            prompt: None,
            cached_tokens: None,
            queue_us: None,
            text: None,
        }
    }
}

/// Why a generation ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Finish {
    /// The model's end-of-turn token, which is the last token.
    EndOfTurn,
    /// One of [`Sampling::stop_token_ids`](crate::Sampling::stop_token_ids), which is the last token.
    StopToken(u32),
    /// One of [`Sampling::stop`](crate::Sampling::stop), which the tokens contain or end within.
    StopText(String),
    /// `max_tokens`, or the model's context, is used up.
    Length,
    /// Somebody asked for its end.
    Aborted,
}

impl Finish {
    /// The word for it in records.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::EndOfTurn | Self::StopToken(_) | Self::StopText(_) => "stop",
            Self::Length => "length",
            Self::Aborted => "abort",
        }
    }
}
