//! What is around choices.

use serde::Serialize;
use serde_json::{Value, json};

use crate::request::Api;

/// What all pieces of an answer begin with.
pub(crate) struct Head {
    pub(crate) api: Api,
    pub(crate) id: String,
    /// Seconds since 1970.
    pub(crate) created: u64,
    pub(crate) model: String,
}

/// The end of a stream.
pub(crate) const DONE: &str = "data: [DONE]\n\n";

/// What was counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) prompt: usize,
    pub(crate) sampled: usize,
    pub(crate) cached: Option<u32>,
}

impl Usage {
    /// Adds what another choice has taken. A prompt counts once, with the first of its choices.
    pub(crate) fn add(&mut self, choice: Self, is_first: bool) {
        self.sampled += choice.sampled;
        if is_first {
            self.prompt += choice.prompt;
            let sum = |cached| self.cached.unwrap_or(0).saturating_add(cached);
            self.cached = choice.cached.map(sum).or(self.cached);
        }
    }

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

#[derive(Serialize)]
struct Object<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    choices: &'a [Value],
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt_token_ids: Option<&'a [u32]>,
}

impl Head {
    fn object<'a>(&'a self, object: &'static str, choices: &'a [Value]) -> Object<'a> {
        let Self { id, created, model, .. } = self;
        let (created, usage, prompt_token_ids) = (*created, None, None);
        Object { id, object, created, model, choices, usage, prompt_token_ids }
    }

    fn part(&self) -> &'static str {
        match self.api {
            Api::Chat => "chat.completion.chunk",
            Api::Completions => "text_completion",
        }
    }

    /// An answer as a whole. `prompt`: the prompt's ids, where they are wanted.
    pub(crate) fn whole(&self, choices: &[Value], usage: Usage, prompt: Option<&[u32]>) -> String {
        let object = match self.api {
            Api::Chat => "chat.completion",
            Api::Completions => "text_completion",
        };
        let usage = Some(usage.json());
        text(&Object { usage, prompt_token_ids: prompt, ..self.object(object, choices) })
    }

    /// A piece of a choice, as an event. `counts`: the stream has a piece that counts, and all others say
    /// that they do not.
    pub(crate) fn piece(&self, choice: Value, counts: bool) -> String {
        let usage = counts.then_some(Value::Null);
        event(&text(&Object { usage, ..self.object(self.part(), &[choice]) }))
    }

    /// The piece that counts tokens.
    pub(crate) fn usage(&self, usage: Usage) -> String {
        let usage = Some(usage.json());
        event(&text(&Object { usage, ..self.object(self.part(), &[]) }))
    }
}

fn text(object: &Object<'_>) -> String {
    // Texts, numbers and JSON always have a JSON form.
    serde_json::to_string(object).unwrap_or_default()
}

/// An event of a stream.
pub(crate) fn event(data: &str) -> String {
    format!("data: {data}\n\n")
}
