//! Any endpoint that speaks OpenAI's chat completions.

use std::sync::Arc;

use bytes::Bytes;
use http::Method;
use serde::Deserialize;
use tokio::runtime::Handle;

use crate::{
    Answer, Capabilities, Chunk, Control, Error, ErrorKind, Finish, Finished, Generation,
    Inference, Load, Request, RequestId,
};

use super::{HttpTarget, Link, answer};

/// A chat endpoint, which speaks text only: for evaluation. What it samples has text and no tokens, and records
/// say that they are unknown.
#[derive(Clone)]
pub struct OpenAiChat {
    inner: Arc<Inner>,
    runtime: Handle,
}

struct Inner {
    link: Link,
    model: String,
}

/// A token of an answer's text takes no more than this.
const TOKEN_BYTES_MAX: u64 = 256;
const ANSWER_BYTES: u64 = 256 << 10;

impl OpenAiChat {
    /// A channel to the endpoint `/v1/chat/completions` below `target`, and one of its models. Its work is done
    /// on `runtime`.
    ///
    /// # Errors
    ///
    /// The target's URL is none.
    pub fn new(target: HttpTarget, model: String, runtime: Handle) -> Result<Self, Error> {
        // People write it with the version of the interface or without.
        let url = target.url.trim_end_matches('/').trim_end_matches("/v1").to_owned();
        let link = Link::new(HttpTarget { url, ..target })?;
        Ok(Self { inner: Arc::new(Inner { link, model }), runtime })
    }
}

impl Inference for OpenAiChat {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            token_ids: false,
            streaming: false,
            version_spans: false,
            stop_strings: true,
            control: false,
            top_logprobs: 0,
            constraints: false,
        }
    }

    fn generate(&self, request: Request) -> Generation {
        if let Err(error) = self.capabilities().allow(&request.sampling) {
            return Generation::failed(error);
        }
        let inner = Arc::clone(&self.inner);
        Generation::played(&self.runtime, async move |feed| {
            feed.chunk(inner.generate(&request).await?);
            Ok(())
        })
    }

    fn abort(&self, _requests: &[RequestId]) {}

    fn control(&self, _control: Control) -> Answer<'_, ()> {
        let message = "a chat endpoint is not paused and takes no weights";
        Box::pin(async move { Err(Error::new(ErrorKind::Unsupported, message)) })
    }

    fn load(&self) -> Answer<'_, Option<Load>> {
        Box::pin(async { Ok(None) })
    }
}

impl Inner {
    async fn generate(&self, request: &Request) -> Result<Chunk, Error> {
        let Some(messages) = &request.messages else {
            let message = "a chat endpoint takes messages, and no token ids";
            return Err(Error::new(ErrorKind::Unsupported, message));
        };
        let body = body(&self.model, messages, request)?;
        let room = u64::from(request.max_tokens) * TOKEN_BYTES_MAX;
        let path = "/v1/chat/completions";
        let text = self.link.call(Method::POST, path, body, ANSWER_BYTES + room).await?;
        read(&text)
    }
}

fn body(model: &str, messages: &str, request: &Request) -> Result<Bytes, Error> {
    let sampling = &request.sampling;
    let mut body = serde_json::json!({
        "model": model,
        "max_tokens": request.max_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
    });
    if let Some(seed) = request.seed {
        // What is common to all that take one.
        body["seed"] = (seed >> 33).into();
    }
    if !sampling.stop.is_empty() {
        body["stop"] = sampling.stop.clone().into();
    }
    let mut text = body.to_string();
    // The messages are JSON already, and stay as they are.
    text.truncate(text.len() - 1);
    text.push_str(",\"messages\":");
    text.push_str(messages);
    text.push('}');
    Ok(text.into())
}

fn read(text: &[u8]) -> Result<Chunk, Error> {
    #[derive(Deserialize)]
    struct Answered {
        choices: Vec<Choice>,
    }
    #[derive(Deserialize)]
    struct Choice {
        message: Message,
        finish_reason: Option<String>,
    }
    #[derive(Deserialize)]
    struct Message {
        #[serde(default)]
        content: Option<String>,
    }
    let nonsense = |what: String| Error::new(ErrorKind::Nonsense, what);
    let answered: Answered = serde_json::from_slice(text)
        .map_err(|error| nonsense(format!("an answer that cannot be read: {error}")))?;
    let first = answered.choices.into_iter().next();
    let Choice { message, finish_reason } =
        first.ok_or_else(|| nonsense("an answer without a choice".to_owned()))?;
    // Endpoints have reasons of their own (`content_filter`, `tool_calls`): the text is there all the same.
    let finish = finish_reason.as_deref().map(|it| answer::finish(it, None));
    let finish = finish.and_then(Result::ok).unwrap_or(Finish::EndOfTurn);
    let text = Some(message.content.unwrap_or_default());
    Ok(Chunk { finished: Some(Finished { text, ..Finished::new(finish) }), ..Chunk::default() })
}

#[cfg(test)]
mod tests {
    use crate::{Deliver, Sampling};

    use super::*;

    #[test]
    fn messages_go_as_they_are() {
        let request = Request {
            id: RequestId(0),
            prompt: Arc::from([]),
            messages: Some(Arc::from(r#"[{"role":"user","content":"a\n"}]"#)),
            sampling: Arc::new(Sampling { stop: vec!["\"".to_owned()], ..Sampling::default() }),
            max_tokens: 3,
            seed: Some(u64::MAX),
            affinity: None,
            deliver: Deliver::Whole,
        };
        let body = body("m", request.messages.as_ref().unwrap(), &request).unwrap();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["messages"][0]["content"], "a\n");
        assert_eq!(body["stop"][0], "\"");
        assert!(body["seed"].as_u64().unwrap() < 1 << 31);
    }

    #[test]
    fn answers_are_text() {
        let chunk = read(br#"{"choices":[{"message":{"content":"hi"},"finish_reason":"length"}]}"#);
        let finished = chunk.unwrap().finished.unwrap();
        assert_eq!((finished.text.as_deref(), finished.finish), (Some("hi"), Finish::Length));
        let odd = br#"{"choices":[{"message":{"content":null},"finish_reason":"content_filter"}]}"#;
        assert_eq!(read(odd).unwrap().finished.unwrap().finish, Finish::EndOfTurn);
        for wrong in [&b"{}"[..], b"", br#"{"choices":[]}"#] {
            assert_eq!(read(wrong).unwrap_err().kind, ErrorKind::Nonsense);
        }
    }
}
