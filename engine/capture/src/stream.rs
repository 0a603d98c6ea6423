//! Answers in pieces, as server-sent events.

use std::{convert::Infallible, sync::Arc};

use axum::{
    body::Body,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use serde_json::{Value, json};

use crate::{
    answer::{self, Told, Usage, chat, completion},
    call::{Common, Running, Step},
    refusal::Refusal,
    request::Api,
    sieve::Piece,
};

/// What a choice adds to the stream.
struct Part {
    events: String,
    /// What it has taken, and whether it is the first of its prompt, if this was its end.
    last: Option<(Usage, bool)>,
}

/// Streams an answer. Its first step comes before the head of the response, so that what fails at once
/// has a status that says so. When the client is gone the body is dropped, and the generations with it.
pub(crate) async fn stream(
    common: Arc<Common>,
    choices: Vec<Running>,
) -> Result<Response, Refusal> {
    let mut all = All { common, usage: Usage::default(), left: choices.len() };
    let mut parts = stream::select_all(choices.into_iter().map(|it| Box::pin(parts(it))));
    let none = || Refusal::server(StatusCode::BAD_GATEWAY, "there are no choices");
    let first = all.take(parts.next().await.ok_or_else(none)??);
    let state = Some((parts, all, Some(first)));
    let events = stream::unfold(state, |state| async move {
        let (mut parts, mut all, ready) = state?;
        if let Some(ready) = ready {
            return Some((piece(ready), Some((parts, all, None))));
        }
        match parts.next().await? {
            Ok(part) => {
                let events = all.take(part);
                Some((piece(events), Some((parts, all, None))))
            }
            // The other choices are given up with their streams.
            Err(refusal) => Some((piece(answer::event(&refusal.body())), None)),
        }
    });
    let head = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-cache")];
    Ok((head, Body::from_stream(events)).into_response())
}

fn piece(text: String) -> Result<Bytes, Infallible> {
    Ok(Bytes::from(text))
}

/// All choices of a stream.
struct All {
    common: Arc<Common>,
    usage: Usage,
    /// So many have not ended.
    left: usize,
}

impl All {
    /// A part's events, and the stream's end behind the last.
    fn take(&mut self, part: Part) -> String {
        let mut events = part.events;
        let Some((usage, is_first)) = part.last else { return events };
        self.usage.add(usage, is_first);
        self.left = self.left.saturating_sub(1);
        if self.left == 0 {
            if self.common.shape.usage {
                events.push_str(&self.common.head.usage(self.usage));
            }
            events.push_str(answer::DONE);
        }
        events
    }
}

/// A choice, step by step.
fn parts(running: Running) -> impl Stream<Item = Result<Part, Refusal>> {
    let state = Some((running, Pending::default()));
    stream::unfold(state, |state| async move {
        let (mut running, mut pending) = state?;
        let mut events = String::new();
        // Half a character is no piece: what is given is never empty.
        while events.is_empty() {
            let step = match running.step().await {
                Ok(step) => step,
                Err(refusal) => return Some((Err(refusal), None)),
            };
            if let Some(usage) = pending.write(&running, step, &mut events) {
                let last = Some((usage, running.is_first));
                return Some((Ok(Part { events, last }), None));
            }
        }
        Some((Ok(Part { events, last: None }), Some((running, pending))))
    })
}

/// What a choice's stream still owes.
#[derive(Default)]
struct Pending {
    has_begun: bool,
    /// Log-probabilities of tokens whose text is not written yet.
    told: Vec<Told>,
    /// Characters of the tokens that were told.
    characters: usize,
}

impl Pending {
    /// Writes a step's events; what the choice has taken, if they are the last.
    fn write(&mut self, running: &Running, step: Step, out: &mut String) -> Option<Usage> {
        let Common { head, shape, .. } = &*running.common;
        let (index, counts) = (running.index, shape.usage);
        let is_chat = head.api == Api::Chat;
        if is_chat && !std::mem::replace(&mut self.has_begun, true) {
            out.push_str(&head.piece(chat::piece(index, &chat::begin(), None, None), counts));
        }
        self.told.extend(step.logprobs);
        for piece in &step.pieces {
            let logprobs = shape.logprobs.then(|| self.logprobs(running));
            let choice = match piece {
                piece if is_chat => chat::piece(index, &chat::delta(piece), None, logprobs),
                Piece::Content(text) | Piece::Reasoning(text) => {
                    completion::piece(index, text, None, logprobs)
                }
            };
            out.push_str(&head.piece(choice, counts));
        }
        let last = step.last?;
        for (call, it) in last.calls.iter().enumerate() {
            let choice = chat::piece(index, &chat::called(call, it), None, None);
            out.push_str(&head.piece(choice, counts));
        }
        let left = (!self.told.is_empty()).then(|| self.logprobs(running));
        let finish = Some(last.finish);
        let choice = if is_chat {
            chat::piece(index, &json!({}), finish, left)
        } else {
            completion::piece(index, "", finish, left)
        };
        out.push_str(&head.piece(choice, counts));
        Some(last.usage)
    }

    /// Those that were not written.
    fn logprobs(&mut self, running: &Running) -> Value {
        let told = std::mem::take(&mut self.told);
        let Common { model, head, .. } = &*running.common;
        match head.api {
            Api::Chat => chat::logprobs(model, &told),
            Api::Completions => completion::logprobs(model, &told, &mut self.characters),
        }
    }
}
