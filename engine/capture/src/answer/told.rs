//! What is told of a sampled token.

use envmill_chat::Model;
use envmill_inference::TopLogprobs;

/// A sampled token, and what else might have been.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Told {
    pub(crate) token_id: u32,
    pub(crate) logprob: f32,
    /// The most likely tokens there, where they were asked for.
    pub(crate) top: Vec<(u32, f32)>,
}

impl Told {
    pub(crate) fn all(token_ids: &[u32], logprobs: &[f32], top: &TopLogprobs) -> Vec<Self> {
        let pairs = token_ids.iter().zip(logprobs).enumerate();
        pairs
            .map(|(place, (token_id, logprob))| Self {
                token_id: *token_id,
                logprob: *logprob,
                top: top.at(place).collect(),
            })
            .collect()
    }
}

/// The text of a token alone. What is half a character has none.
pub(super) fn text(model: &Model, token_id: u32) -> String {
    model.decode(&[token_id], false).unwrap_or_default()
}

/// A logarithm as JSON can have it: of what cannot be sampled it is the one that vLLM gives.
pub(super) fn finite(logprob: f32) -> f32 {
    logprob.max(-9999.0)
}
