//! Answers, whole and in pieces.

use envmill_chat::{Message, Model, ToolCall};
use serde_json::{Map, Value, json};

use crate::sieve::Piece;

/// What all pieces of an answer begin with.
pub(crate) struct Head {
    pub(crate) id: String,
    /// Seconds since 1970.
    pub(crate) created: u64,
    pub(crate) model: String,
}

/// What was counted.
#[derive(Clone, Copy)]
pub(crate) struct Usage {
    pub(crate) prompt: usize,
    pub(crate) sampled: usize,
    pub(crate) cached: Option<u32>,
}

impl Usage {
    fn json(self) -> Value {
        let Self { prompt, sampled, cached } = self;
        let mut usage = json!({
            "prompt_tokens": prompt,
            "completion_tokens": sampled,
            "total_tokens": prompt + sampled,
        });
        if let Some(cached) = cached {
            usage["prompt_tokens_details"] = json!({"cached_tokens": cached});
        }
        usage
    }
}

impl Head {
    fn object(&self, kind: &str, choices: Value) -> Map<String, Value> {
        let mut object = Map::new();
        object.insert("id".to_owned(), json!(self.id));
        object.insert("object".to_owned(), json!(kind));
        object.insert("created".to_owned(), json!(self.created));
        object.insert("model".to_owned(), json!(self.model));
        object.insert("choices".to_owned(), choices);
        object
    }

    /// An answer as a whole. `ids`: those of the prompt and of the answer, where they are wanted.
    pub(crate) fn whole(
        &self,
        said: &Message,
        finish: &str,
        usage: Usage,
        logprobs: Option<Vec<Value>>,
        ids: Option<[&[u32]; 2]>,
    ) -> String {
        let logprobs = logprobs.map(|content| json!({"content": content, "refusal": null}));
        let mut choice = json!({
            "index": 0,
            "message": message(said),
            "logprobs": logprobs,
            "finish_reason": finish,
        });
        if let Some([_, sampled]) = ids {
            choice["token_ids"] = json!(sampled);
        }
        let mut object = self.object("chat.completion", json!([choice]));
        object.insert("usage".to_owned(), usage.json());
        if let Some([prompt, _]) = ids {
            object.insert("prompt_token_ids".to_owned(), json!(prompt));
        }
        Value::Object(object).to_string()
    }

    /// A piece of an answer, as an event. `counts`: the stream has a piece that counts, and all others
    /// say that they do not.
    pub(crate) fn piece(
        &self,
        delta: &Value,
        finish: Option<&str>,
        logprobs: Option<Vec<Value>>,
        counts: bool,
    ) -> String {
        let logprobs = logprobs.map(|content| json!({"content": content, "refusal": null}));
        let choice =
            json!({"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": finish});
        let mut object = self.object("chat.completion.chunk", json!([choice]));
        if counts {
            object.insert("usage".to_owned(), Value::Null);
        }
        event(&Value::Object(object).to_string())
    }

    /// The piece that counts tokens.
    pub(crate) fn usage(&self, usage: Usage) -> String {
        let mut object = self.object("chat.completion.chunk", json!([]));
        object.insert("usage".to_owned(), usage.json());
        event(&Value::Object(object).to_string())
    }
}

/// An event of a stream.
pub(crate) fn event(data: &str) -> String {
    format!("data: {data}\n\n")
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

/// The log-probability of a token.
pub(crate) fn logprob(model: &Model, id: u32, logprob: f32) -> Value {
    let token = model.decode(&[id], false).unwrap_or_default();
    // Half a character has no text; its bytes are not known then.
    let bytes = (!token.contains('\u{fffd}')).then(|| token.as_bytes().to_vec());
    json!({"token": token, "logprob": logprob, "bytes": bytes, "top_logprobs": []})
}
