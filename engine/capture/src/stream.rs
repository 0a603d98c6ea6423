//! Answers in pieces, as server-sent events.

use std::convert::Infallible;

use axum::{
    body::Body,
    http::header,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures_util::stream;
use serde_json::{Value, json};

use crate::{
    answer,
    call::{Running, Step},
    refusal::Refusal,
};

/// Streams an answer. Its first step comes before the head of the response, so that what fails at once
/// has a status that says so. When the client is gone the body is dropped, and the generation with it.
pub(crate) async fn stream(mut running: Running) -> Result<Response, Refusal> {
    let step = running.step().await?;
    let counts = running.shape.usage;
    let begin = json!({"role": "assistant", "content": ""});
    let mut first = running.head.piece(&begin, None, None, counts);
    let mut pending = Pending::default();
    let is_last = pending.write(&running, step, &mut first);
    let state = (running, pending, Some(first), is_last);
    let events = stream::unfold(state, |(mut running, mut pending, ready, is_last)| async move {
        if let Some(ready) = ready {
            return Some((piece(ready), (running, pending, None, is_last)));
        }
        if is_last {
            return None;
        }
        let mut out = String::new();
        // Half a character is no piece: what is given is never empty.
        while out.is_empty() {
            match running.step().await {
                Ok(step) => {
                    if pending.write(&running, step, &mut out) {
                        return Some((piece(out), (running, pending, None, true)));
                    }
                }
                Err(refusal) => {
                    let error = answer::event(&refusal.body());
                    return Some((piece(error), (running, pending, None, true)));
                }
            }
        }
        Some((piece(out), (running, pending, None, false)))
    });
    let head = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-cache")];
    Ok((head, Body::from_stream(events)).into_response())
}

fn piece(text: String) -> Result<Bytes, Infallible> {
    Ok(Bytes::from(text))
}

/// Log-probabilities of tokens whose text is not written yet.
#[derive(Default)]
struct Pending(Vec<Value>);

impl Pending {
    /// Writes a step's events; true if they are the last.
    fn write(&mut self, running: &Running, step: Step, out: &mut String) -> bool {
        let (head, shape) = (&running.head, &running.shape);
        self.0.extend(step.logprobs.unwrap_or_default());
        let mut logprobs = |wanted: bool| wanted.then(|| std::mem::take(&mut self.0));
        for piece in &step.pieces {
            let delta = answer::delta(piece);
            out.push_str(&head.piece(&delta, None, logprobs(shape.logprobs), shape.usage));
        }
        let Some(last) = step.last else { return false };
        for (index, call) in last.calls.iter().enumerate() {
            out.push_str(&head.piece(&answer::called(index, call), None, None, shape.usage));
        }
        let left = logprobs(shape.logprobs).filter(|it| !it.is_empty());
        out.push_str(&head.piece(&json!({}), Some(last.finish), left, shape.usage));
        if shape.usage {
            out.push_str(&head.usage(last.usage));
        }
        out.push_str(&answer::event("[DONE]"));
        true
    }
}
