//! How to sample.

use serde::Serialize;
use serde_json::value::RawValue;

use super::Constraint;

/// Of a place, the log-probabilities of at most so many tokens can be asked for.
pub const TOP_LOGPROBS_MAX: u32 = 20;

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
    /// Beside them, those of so many most likely tokens at each place, at most [`TOP_LOGPROBS_MAX`].
    pub top_logprobs: u32,
    /// What the text has to be. What began in the midst of it would be held to a beginning, so that such a
    /// generation is never continued elsewhere.
    pub constraint: Option<Constraint>,
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
            top_logprobs: 0,
            constraint: None,
        }
    }
}

impl Sampling {
    /// As records have it: the text of a JSON object, names as vLLM has them. What does not change what is
    /// sampled is not in it.
    #[must_use]
    pub fn to_json(&self, max_tokens: u32) -> String {
        #[derive(Serialize)]
        struct Object<'a> {
            temperature: f32,
            top_p: f32,
            top_k: Option<u32>,
            min_p: f32,
            min_tokens: u32,
            max_tokens: u32,
            stop_token_ids: &'a [u32],
            stop: &'a [String],
            ignore_eos: bool,
            #[serde(skip_serializing_if = "Option::is_none")]
            structured_outputs: Option<Box<RawValue>>,
        }
        let constraint = self.constraint.as_ref().map(Constraint::to_json);
        let object = Object {
            temperature: self.temperature,
            top_p: self.top_p,
            top_k: self.top_k,
            min_p: self.min_p,
            min_tokens: self.min_tokens,
            max_tokens,
            stop_token_ids: &self.stop_token_ids,
            stop: &self.stop,
            ignore_eos: self.ignore_eos,
            structured_outputs: constraint.and_then(|it| RawValue::from_string(it).ok()),
        };
        // Numbers, texts and JSON always have a JSON form.
        serde_json::to_string(&object).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_constraint_is_told() {
        let free = Sampling::default().to_json(5);
        assert!(free.ends_with(r#""ignore_eos":false}"#), "{free}");
        let constraint = Some(Constraint::JsonObject);
        let held = Sampling { constraint, ..Sampling::default() }.to_json(5);
        assert!(held.ends_with(r#""structured_outputs":{"json_object":true}}"#), "{held}");
    }
}
