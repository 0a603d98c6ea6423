//! What a call asks for.

use std::borrow::Cow;

use envmill_chat::Message;
use envmill_inference::Sampling;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, value::RawValue};

use crate::{CaptureOptions, refusal::Refusal};

/// Stop strings in one call.
const STOPS: usize = 16;

/// A call of `/v1/chat/completions`.
#[derive(Debug)]
pub(crate) struct Ask {
    /// The name that the call gives the model.
    pub(crate) model: String,
    pub(crate) messages: Vec<Message>,
    /// Tools and template variables as they were written: models see their keys in that order.
    pub(crate) tools: Option<Box<RawValue>>,
    pub(crate) variables: Option<Box<RawValue>>,
    pub(crate) sampling: Sampling,
    pub(crate) max_tokens: Option<u32>,
    pub(crate) seed: Option<u64>,
    pub(crate) shape: Shape,
}

/// What the answer should look like.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Shape {
    /// It comes in pieces.
    pub(crate) stream: bool,
    /// The last piece counts tokens.
    pub(crate) usage: bool,
    pub(crate) logprobs: bool,
    /// It has the token ids, as vLLM answers them.
    pub(crate) token_ids: bool,
    /// Calls of tools are looked for.
    pub(crate) tools: bool,
    /// Texts that end it, and are no part of it.
    pub(crate) stop: Vec<String>,
}

#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(borrow)]
    model: Option<Cow<'a, str>>,
    #[serde(borrow)]
    messages: Option<Vec<&'a RawValue>>,
    tools: Option<Box<RawValue>>,
    tool_choice: Option<Value>,
    temperature: Option<f32>,
    top_p: Option<f32>,
    top_k: Option<i64>,
    min_p: Option<f32>,
    min_tokens: Option<u32>,
    max_tokens: Option<u32>,
    max_completion_tokens: Option<u32>,
    stop: Option<Value>,
    stop_token_ids: Option<Vec<u32>>,
    ignore_eos: Option<bool>,
    seed: Option<i64>,
    n: Option<u32>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    logprobs: Option<bool>,
    top_logprobs: Option<u32>,
    return_token_ids: Option<bool>,
    chat_template_kwargs: Option<Box<RawValue>>,
}

#[derive(Deserialize)]
struct StreamOptions {
    include_usage: Option<bool>,
}

/// What would change what is sampled, and cannot be done; with the values that ask for nothing.
const NOT_DONE: [(&str, &[&str]); 16] = [
    ("response_format", &[r#"{"type":"text"}"#]),
    ("frequency_penalty", &["0", "0.0"]),
    ("presence_penalty", &["0", "0.0"]),
    ("repetition_penalty", &["1", "1.0"]),
    ("logit_bias", &["{}"]),
    ("functions", &["[]"]),
    ("function_call", &[r#""none""#, r#""auto""#]),
    ("audio", &[]),
    ("prediction", &[]),
    ("guided_json", &[]),
    ("guided_regex", &[]),
    ("guided_choice", &[]),
    ("guided_grammar", &[]),
    ("structured_outputs", &[]),
    ("continue_final_message", &["false"]),
    ("add_generation_prompt", &["true"]),
];

impl Ask {
    /// Reads a body. Fields that nobody here knows are let be, as servers of this API do.
    pub(crate) fn read(body: &[u8], options: &CaptureOptions) -> Result<Self, Refusal> {
        let wire: Wire<'_> = serde_json::from_slice(body).map_err(|error| {
            let message = format!("We could not parse the JSON body of your request: {error}");
            Refusal::invalid(axum::http::StatusCode::BAD_REQUEST, message, None)
        })?;
        not_done(body)?;
        if wire.n.is_some_and(|n| n != 1) {
            return Err(Refusal::bad("n", "n is 1 here: call again for another answer"));
        }
        if wire.top_logprobs.is_some_and(|it| it > 0) {
            let message =
                "only the log-probabilities of the sampled tokens are known: leave it out";
            return Err(Refusal::bad("top_logprobs", message));
        }
        let shape = Shape {
            stream: wire.stream.unwrap_or(false),
            usage: wire.stream_options.as_ref().and_then(|it| it.include_usage).unwrap_or(false),
            logprobs: wire.logprobs.unwrap_or(false),
            token_ids: wire.return_token_ids.unwrap_or(false),
            tools: tools(&wire)?,
            stop: stop(wire.stop.as_ref())?,
        };
        let max_tokens = wire.max_completion_tokens.or(wire.max_tokens);
        if max_tokens == Some(0) {
            return Err(Refusal::bad("max_tokens", "max_tokens is at least 1"));
        }
        Ok(Self {
            messages: messages(wire.messages.as_deref(), options)?,
            sampling: sampling(&wire, &shape, options)?,
            max_tokens,
            seed: wire.seed.map(i64::cast_unsigned),
            shape,
            model: wire.model.map_or_else(|| options.model.clone(), Cow::into_owned),
            tools: wire.tools.filter(|it| !matches!(it.get(), "[]" | "null")),
            variables: wire.chat_template_kwargs.filter(|it| !matches!(it.get(), "{}" | "null")),
        })
    }
}

fn messages(wire: Option<&[&RawValue]>, options: &CaptureOptions) -> Result<Vec<Message>, Refusal> {
    let wire = wire.unwrap_or_default();
    if wire.is_empty() {
        return Err(Refusal::bad("messages", "there is no message in messages"));
    }
    let most = options.limits.messages;
    if wire.len() > most {
        let message = format!("{} messages; at most {most} are taken", wire.len());
        return Err(Refusal::bad("messages", message));
    }
    let read = |(index, raw): (usize, &&RawValue)| {
        let mut message = Message::from_json(raw.get())
            .map_err(|error| Refusal::bad(format!("messages[{index}]"), error.to_string()))?;
        // Templates know the older word.
        if message.role == "developer" {
            "system".clone_into(&mut message.role);
        }
        Ok(message)
    };
    wire.iter().enumerate().map(read).collect()
}

/// Whether calls of tools are looked for.
fn tools(wire: &Wire<'_>) -> Result<bool, Refusal> {
    let given: Vec<&RawValue> = match &wire.tools {
        Some(tools) => field("tools", tools)?,
        None => Vec::new(),
    };
    match wire.tool_choice.as_ref().map(|it| (it, it.as_str())) {
        None | Some((Value::Null, _) | (_, Some("auto"))) => Ok(!given.is_empty()),
        Some((_, Some("none"))) => Ok(false),
        Some(_) => Err(Refusal::bad(
            "tool_choice",
            "only \"auto\" and \"none\" can be had: the model cannot be made to call a tool",
        )),
    }
}

fn field<'a, T: Deserialize<'a>>(name: &str, raw: &'a RawValue) -> Result<T, Refusal> {
    serde_json::from_str(raw.get()).map_err(|error| Refusal::bad(name, error.to_string()))
}

fn stop(wire: Option<&Value>) -> Result<Vec<String>, Refusal> {
    let stop: Vec<String> = match wire {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::String(one)) => vec![one.clone()],
        Some(list) => typed("stop", list)?,
    };
    if stop.len() > STOPS || stop.iter().any(String::is_empty) {
        return Err(Refusal::bad("stop", format!("stop has at most {STOPS} texts, none empty")));
    }
    Ok(stop)
}

fn typed<T: DeserializeOwned>(name: &str, value: &Value) -> Result<T, Refusal> {
    T::deserialize(value).map_err(|error| Refusal::bad(name, error.to_string()))
}

fn sampling(wire: &Wire<'_>, shape: &Shape, options: &CaptureOptions) -> Result<Sampling, Refusal> {
    let within = |name: &str, value: Option<f32>, low: f32, high: f32, default: f32| match value {
        None => Ok(default),
        Some(it) if (low..=high).contains(&it) => Ok(it),
        Some(it) => Err(Refusal::bad(name, format!("{name} is {it}, not from {low} to {high}"))),
    };
    let own = Sampling {
        stop: shape.stop.clone(),
        stop_token_ids: wire.stop_token_ids.clone().unwrap_or_default(),
        ..CaptureOptions::sampling()
    };
    let asked = Sampling {
        temperature: within("temperature", wire.temperature, 0.0, 2.0, own.temperature)?,
        top_p: within("top_p", wire.top_p, f32::MIN_POSITIVE, 1.0, own.top_p)?,
        min_p: within("min_p", wire.min_p, 0.0, 1.0, own.min_p)?,
        top_k: match wire.top_k {
            None | Some(-1 | 0) => own.top_k,
            Some(it) => match u32::try_from(it) {
                Ok(it) => Some(it),
                Err(_) => return Err(Refusal::bad("top_k", format!("top_k is {it}"))),
            },
        },
        min_tokens: wire.min_tokens.unwrap_or(0),
        ignore_eos: wire.ignore_eos.unwrap_or(false),
        ..own.clone()
    };
    Ok(if options.sampling_of_calls { asked } else { own })
}

/// Refuses what would change what is sampled and is not known here: to leave it out silently would make
/// the harness see another model than it asked for.
fn not_done(body: &[u8]) -> Result<(), Refusal> {
    #[derive(Deserialize)]
    struct Fields<'a>(#[serde(borrow)] std::collections::HashMap<Cow<'a, str>, &'a RawValue>);
    let Ok(Fields(fields)) = serde_json::from_slice::<Fields<'_>>(body) else { return Ok(()) };
    for (name, neutral) in NOT_DONE {
        let Some(raw) = fields.get(name) else { continue };
        let text: String = raw.get().split_ascii_whitespace().collect();
        if text != "null" && !neutral.contains(&text.as_str()) {
            return Err(Refusal::bad(name, format!("{name} cannot be had here: leave it out")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Result<Ask, Refusal> {
        Ask::read(body.as_bytes(), &CaptureOptions::default())
    }

    fn with(more: &str) -> Result<Ask, Refusal> {
        read(&format!(r#"{{"messages":[{{"role":"user","content":"hi"}}]{more}}}"#))
    }

    #[test]
    fn what_is_asked_for_is_read() {
        let ask = with(
            r#","model":"gpt","temperature":0.5,"top_p":0.9,"max_tokens":7,"max_completion_tokens":8,
            "stop":"x","seed":-1,"n":1,"stream":true,"stream_options":{"include_usage":true},
            "tools":[{"type":"function"}],"top_k":-1,"user":"me","response_format":{"type": "text"}"#,
        )
        .unwrap();
        assert_eq!((ask.model.as_str(), ask.max_tokens), ("gpt", Some(8)));
        assert_eq!((ask.sampling.temperature, ask.sampling.top_k), (0.5, None));
        assert_eq!((ask.sampling.stop, ask.seed), (vec!["x".to_owned()], Some(u64::MAX)));
        assert!(ask.shape.stream && ask.shape.usage && ask.shape.tools);
        let fixed = CaptureOptions { sampling_of_calls: false, ..CaptureOptions::default() };
        let body = br#"{"messages":[{"role":"developer","content":"hi"}],"temperature":0}"#;
        let ask = Ask::read(body, &fixed).unwrap();
        assert_eq!((ask.sampling.temperature, ask.messages[0].role.as_str()), (1.0, "system"));
    }

    #[test]
    fn what_cannot_be_had_is_refused_by_name() {
        for (more, param) in [
            (r#","n":2"#, "n"),
            (r#","top_logprobs":3"#, "top_logprobs"),
            (r#","tools":[{}],"tool_choice":"required""#, "tool_choice"),
            (r#","tools":[{}],"tool_choice":{"type":"function"}"#, "tool_choice"),
            (r#","tools":{}"#, "tools"),
            (r#","temperature":3"#, "temperature"),
            (r#","top_p":0"#, "top_p"),
            (r#","top_k":-7"#, "top_k"),
            (r#","stop":[1]"#, "stop"),
            (r#","stop":[""]"#, "stop"),
            (r#","max_tokens":0"#, "max_tokens"),
            (r#","presence_penalty":0.5"#, "presence_penalty"),
            (r#","response_format":{"type":"json_object"}"#, "response_format"),
        ] {
            let body = with(more).unwrap_err().body();
            assert!(body.contains(&format!(r#""param":"{param}""#)), "{more}: {body}");
        }
        for body in ["", "[]", "{", r#"{"messages":[]}"#, r#"{"messages":[{"content":1}]}"#] {
            assert_eq!(read(body).unwrap_err().status, 400, "{body}");
        }
    }
}
