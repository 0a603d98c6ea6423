//! Choices of `/v1/chat/completions`.

use envmill_chat::{Message, Model, ToolCall};
use serde_json::{Value, json};

use super::told::{Told, finite, text};
use crate::sieve::Piece;

/// A choice as a whole. `ids`: those that were sampled, where they are wanted.
pub(crate) fn whole(
    index: u32,
    said: &Message,
    finish: &str,
    logprobs: Option<Value>,
    ids: Option<&[u32]>,
) -> Value {
    let mut choice = json!({
        "index": index,
        "message": message(said),
        "finish_reason": finish,
    });
    choice["logprobs"] = logprobs.into();
    if let Some(ids) = ids {
        choice["token_ids"] = json!(ids);
    }
    choice
}

/// A piece of a choice.
pub(crate) fn piece(
    index: u32,
    delta: &Value,
    finish: Option<&str>,
    logprobs: Option<Value>,
) -> Value {
    let mut choice = json!({"index": index, "delta": delta, "finish_reason": finish});
    choice["logprobs"] = logprobs.into();
    choice
}

/// What a choice begins with.
pub(crate) fn begin() -> Value {
    json!({"role": "assistant", "content": ""})
}

/// What a piece adds.
pub(crate) fn delta(piece: &Piece) -> Value {
    match piece {
        Piece::Reasoning(text) => json!({"reasoning_content": text}),
        Piece::Content(text) => json!({"content": text}),
    }
}

/// What a call of a tool adds.
pub(crate) fn called(index: usize, call: &ToolCall) -> Value {
    let mut call = tool_call(call);
    call["index"] = json!(index);
    json!({"tool_calls": [call]})
}

/// The log-probabilities of tokens.
pub(crate) fn logprobs(model: &Model, told: &[Told]) -> Value {
    let entry = |token_id: u32, logprob: f32| {
        let token = text(model, token_id);
        // Half a character has no text; its bytes are not known then.
        let bytes = (!token.contains('\u{fffd}')).then(|| token.as_bytes().to_vec());
        json!({"token": token, "logprob": finite(logprob), "bytes": bytes})
    };
    let content = told.iter().map(|it| {
        let mut content = entry(it.token_id, it.logprob);
        content["top_logprobs"] = it.top.iter().map(|top| entry(top.0, top.1)).collect();
        content
    });
    json!({"content": content.collect::<Vec<_>>(), "refusal": null})
}

fn message(said: &Message) -> Value {
    let mut message = json!({"role": "assistant", "content": said.content, "refusal": null});
    if let Some(reasoning) = &said.reasoning {
        message["reasoning_content"] = json!(reasoning);
    }
    if !said.tool_calls.is_empty() {
        message["tool_calls"] = said.tool_calls.iter().map(tool_call).collect();
    }
    message
}

fn tool_call(call: &ToolCall) -> Value {
    json!({
        "id": call.id,
        "type": "function",
        "function": {"name": call.name, "arguments": call.arguments},
    })
}
