//! Choices of `/v1/completions`.

use envmill_chat::Model;
use serde_json::{Map, Value, json};

use super::told::{Told, finite, text};

/// A choice as a whole. `ids`: those of the prompt and those that were sampled, where they are wanted.
pub(crate) fn whole(
    index: u32,
    text: &str,
    finish: &str,
    logprobs: Option<Value>,
    ids: Option<[&[u32]; 2]>,
) -> Value {
    let mut choice = piece(index, text, Some(finish), logprobs);
    if let Some([prompt, sampled]) = ids {
        choice["prompt_token_ids"] = json!(prompt);
        choice["token_ids"] = json!(sampled);
    }
    choice
}

/// A piece of a choice.
pub(crate) fn piece(
    index: u32,
    text: &str,
    finish: Option<&str>,
    logprobs: Option<Value>,
) -> Value {
    let mut choice = json!({"index": index, "text": text, "finish_reason": finish});
    choice["logprobs"] = logprobs.into();
    choice
}

/// The log-probabilities of tokens, whose texts begin behind so many characters of the choice's; the
/// characters are then those behind them. The most likely tokens are known by their texts here, and the sampled
/// one is always among them.
pub(crate) fn logprobs(model: &Model, told: &[Told], characters: &mut usize) -> Value {
    let mut tokens = Vec::with_capacity(told.len());
    let mut token_logprobs = Vec::with_capacity(told.len());
    let mut top_logprobs = Vec::with_capacity(told.len());
    let mut text_offset = Vec::with_capacity(told.len());
    for it in told {
        let token = text(model, it.token_id);
        let candidates = it.top.iter().copied().chain([(it.token_id, it.logprob)]);
        let top: Map<String, Value> =
            candidates.map(|(id, logprob)| (text(model, id), json!(finite(logprob)))).collect();
        top_logprobs.push(top);
        token_logprobs.push(finite(it.logprob));
        text_offset.push(*characters);
        *characters += token.chars().count();
        tokens.push(token);
    }
    json!({
        "tokens": tokens,
        "token_logprobs": token_logprobs,
        "top_logprobs": top_logprobs,
        "text_offset": text_offset,
    })
}
