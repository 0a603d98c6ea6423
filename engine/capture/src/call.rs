//! A choice under way: from the engine's chunks to pieces of an answer.

use std::sync::Arc;

use axum::http::StatusCode;
use bytes::Bytes;
use envmill_chat::{Conversation, Message, Model, ToolCall};
use envmill_inference::{Chunk, Finish, Finished, Generation, Outcome};
use serde_json::{Value, value::RawValue};

use crate::{
    CaptureOptions, End,
    answer::{Head, Told, Usage, chat, completion},
    decoder::Decoder,
    episode::{Flight, Node},
    prepare::Prepared,
    refusal::Refusal,
    request::{Api, Calls, Shape},
    sieve::{Piece, Sieve},
    tools,
};

/// What all choices of a call share.
pub(crate) struct Common {
    pub(crate) model: Arc<Model>,
    pub(crate) options: Arc<CaptureOptions>,
    pub(crate) tools: Option<Box<RawValue>>,
    pub(crate) shape: Shape,
    pub(crate) head: Head,
}

/// A choice under way.
pub(crate) struct Running {
    // First: the generation is given up before anybody hears that the call has ended.
    generation: Generation,
    flight: Flight,
    pub(crate) common: Arc<Common>,
    prepared: Arc<Prepared>,
    /// Up to the prompt; none where there are no messages.
    conversation: Option<Conversation>,
    /// Which of the call's choices it is.
    pub(crate) index: u32,
    /// It is the first of those of its prompt.
    pub(crate) is_first: bool,
    turn: u32,
    decoder: Decoder,
    sieve: Sieve,
}

/// Which of a call's choices one is.
#[derive(Clone, Copy)]
pub(crate) struct Choice {
    pub(crate) index: u32,
    pub(crate) is_first: bool,
    /// The index of its generation among those of the episode.
    pub(crate) turn: u32,
}

/// What came next.
#[derive(Default)]
pub(crate) struct Step {
    pub(crate) pieces: Vec<Piece>,
    /// Those of the tokens that came, where they are wanted.
    pub(crate) logprobs: Vec<Told>,
    /// The choice's end, if this was it.
    pub(crate) last: Option<Last>,
}

/// The end of a choice.
pub(crate) struct Last {
    pub(crate) calls: Vec<ToolCall>,
    pub(crate) finish: &'static str,
    pub(crate) usage: Usage,
    /// The choice.
    pub(crate) choice: Value,
    /// The answer, as if it were the only one.
    pub(crate) whole: Bytes,
}

impl Running {
    pub(crate) fn new(
        generation: Generation,
        flight: Flight,
        common: Arc<Common>,
        (prepared, conversation): (Arc<Prepared>, Option<Conversation>),
        Choice { index, is_first, turn }: Choice,
    ) -> Self {
        let Common { shape, options, head, .. } = &*common;
        let mut sieve = match head.api {
            Api::Chat => Sieve::new(&options.reasoning, &shape.stop, prepared.reasons),
            Api::Completions => Sieve::new(&[String::new(), String::new()], &shape.stop, false),
        };
        if prepared.is_held {
            sieve = sieve.json();
        }
        if let Some((anywhere, first)) = tools::begin(&shape.calls, options.tool_format) {
            sieve = sieve.calls(anywhere, first);
        }
        let decoder = Decoder::behind(&prepared.prompt);
        Self {
            generation,
            flight,
            common,
            prepared,
            conversation,
            index,
            is_first,
            turn,
            decoder,
            sieve,
        }
    }

    /// Waits for what comes next. After an error or the last step there is nothing more.
    pub(crate) async fn step(&mut self) -> Result<Step, Refusal> {
        let taken = tokio::select! {
            biased;
            chunk = self.generation.next() => match chunk {
                Some(Ok(chunk)) => self.take(chunk),
                Some(Err(error)) => Err(Refusal::from(&error)),
                None => Err(Refusal::server(StatusCode::BAD_GATEWAY, "the generation has no end")),
            },
            () = self.flight.episode.ended() => {
                self.flight.end(End::Closed);
                return Err(Refusal::key("The episode of this API key has ended."));
            }
        };
        taken.inspect_err(|refusal| self.flight.end(End::Failed(refusal.message.clone())))
    }

    /// Waits for the end.
    pub(crate) async fn last(&mut self) -> Result<Last, Refusal> {
        loop {
            if let Some(last) = self.step().await?.last {
                return Ok(last);
            }
        }
    }

    fn take(&mut self, chunk: Chunk) -> Result<Step, Refusal> {
        let mut step = Step::default();
        let ids = chunk.token_ids.clone();
        if self.common.shape.logprobs {
            step.logprobs = Told::all(&ids, &chunk.logprobs, &chunk.top_logprobs);
        }
        let finished = self.flight.push(chunk)?;
        let text = self.decoder.push(&self.common.model, &ids).map_err(|it| failed(&it))?;
        self.sieve.push(&text, &mut step.pieces);
        if let Some(finished) = finished {
            step.last = Some(self.finish(&finished, &mut step.pieces)?);
        }
        Ok(step)
    }

    fn finish(&mut self, finished: &Finished, out: &mut Vec<Piece>) -> Result<Last, Refusal> {
        if finished.finish == Finish::Aborted {
            let message = "the inference engine has ended the generation: ask again";
            return Err(Refusal::server(StatusCode::SERVICE_UNAVAILABLE, message));
        }
        let Common { model, options, tools, shape, head, .. } = &*self.common;
        let is_turn = matches!(finished.finish, Finish::EndOfTurn | Finish::StopToken(_));
        let rest = self.decoder.end(model, is_turn).map_err(|it| failed(&it))?;
        self.sieve.push(&rest, out);
        let mut calls = Vec::new();
        if let Some(called) = self.sieve.end(out) {
            let format = options.tool_format;
            match tools::read(&shape.calls, format, tools.as_deref(), &called, self.turn) {
                Some(read) => calls = read,
                None => self.sieve.uncalled(&called, out),
            }
        }
        let finish = match finished.finish {
            // The API's word for a call that was chosen by whoever asked is `stop`.
            _ if !calls.is_empty() && !matches!(shape.calls, Calls::Named(_)) => "tool_calls",
            Finish::Length => "length",
            _ => "stop",
        };
        let outcome = self.flight.outcome();
        let said = Message { tool_calls: calls.clone(), ..self.sieve.said().clone() };
        let said = match &said.content {
            None if calls.is_empty() => Message { content: Some(String::new()), ..said },
            _ => said,
        };
        let seen = finished.prompt.as_deref();
        let prompt = seen.unwrap_or(&self.prepared.prompt);
        let usage = Usage {
            prompt: prompt.len(),
            sampled: outcome.token_ids.len(),
            cached: finished.cached_tokens,
        };
        let choice = self.choice(&said, finish, &outcome, prompt);
        let ids = self.prompt_ids(prompt);
        let whole = Bytes::from(head.whole(std::slice::from_ref(&choice), usage, ids));
        // Nothing comes behind the end, so that it is there.
        let node = self.conversation.take().map(|mut conversation| {
            if let Some(seen) = seen {
                conversation.engine_prompt(seen);
            }
            conversation.sampled(&outcome.token_ids);
            let digest = self.prepared.trail.answered(&said);
            (digest, Node { conversation, chat: self.prepared.chat, said })
        });
        if head.api == Api::Completions {
            self.flight.completed(&[prompt, &outcome.token_ids]);
        }
        self.flight.answer(finished, whole.clone(), node);
        Ok(Last { calls, finish, usage, choice, whole })
    }

    fn choice(&self, said: &Message, finish: &str, outcome: &Outcome, prompt: &[u32]) -> Value {
        let Common { model, shape, head, .. } = &*self.common;
        let Outcome { token_ids, logprobs, top_logprobs, .. } = outcome;
        let told = shape.logprobs.then(|| Told::all(token_ids, logprobs, top_logprobs));
        match head.api {
            Api::Chat => {
                let logprobs = told.map(|it| chat::logprobs(model, &it));
                let ids = shape.token_ids.then_some(&token_ids[..]);
                chat::whole(self.index, said, finish, logprobs, ids)
            }
            Api::Completions => {
                let logprobs = told.map(|it| completion::logprobs(model, &it, &mut 0));
                let ids = shape.token_ids.then_some([prompt, token_ids]);
                let text = said.content.as_deref().unwrap_or_default();
                completion::whole(self.index, text, finish, logprobs, ids)
            }
        }
    }

    /// The prompt's ids, where they stand beside the choices and are wanted.
    pub(crate) fn prompt_ids<'a>(&self, prompt: &'a [u32]) -> Option<&'a [u32]> {
        let Common { shape, head, .. } = &*self.common;
        (shape.token_ids && head.api == Api::Chat).then_some(prompt)
    }

    /// The prompt's ids, as they were sent.
    pub(crate) fn prompt(&self) -> &[u32] {
        &self.prepared.prompt
    }
}

fn failed(error: &envmill_chat::TokenError) -> Refusal {
    Refusal::server(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
}
