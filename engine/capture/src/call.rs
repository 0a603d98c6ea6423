//! A call under way: from the engine's chunks to pieces of an answer.

use std::{sync::Arc, time::UNIX_EPOCH};

use axum::http::StatusCode;
use bytes::Bytes;
use envmill_chat::{Message, Model, ToolCall};
use envmill_inference::{Finish, Finished, Generation, Outcome, RequestId};
use serde_json::{Value, value::RawValue};

use crate::{
    CaptureOptions, End,
    answer::{Head, Usage, logprob},
    decoder::Decoder,
    episode::{Flight, Node},
    prepare::Prepared,
    refusal::Refusal,
    request::{Ask, Shape},
    sieve::{Piece, Sieve},
    tools,
};

/// A call under way.
pub(crate) struct Running {
    // First: the generation is given up before anybody hears that the call has ended.
    generation: Generation,
    flight: Flight,
    model: Arc<Model>,
    options: Arc<CaptureOptions>,
    prepared: Prepared,
    tools: Option<Box<RawValue>>,
    turn: u32,
    decoder: Decoder,
    sieve: Sieve,
    pub(crate) shape: Shape,
    pub(crate) head: Head,
}

/// What came next.
#[derive(Default)]
pub(crate) struct Step {
    pub(crate) pieces: Vec<Piece>,
    /// Those of the tokens that came, where they are wanted.
    pub(crate) logprobs: Option<Vec<Value>>,
    /// The answer's end, if this was it.
    pub(crate) last: Option<Last>,
}

/// The end of an answer.
pub(crate) struct Last {
    pub(crate) calls: Vec<ToolCall>,
    pub(crate) finish: &'static str,
    pub(crate) usage: Usage,
    /// The answer as a whole.
    pub(crate) whole: Bytes,
}

impl Running {
    pub(crate) fn new(
        generation: Generation,
        (flight, turn): (Flight, u32),
        (model, options): (Arc<Model>, Arc<CaptureOptions>),
        (ask, prepared): (Ask, Prepared),
        id: RequestId,
    ) -> Self {
        let mut sieve = Sieve::new(&options.reasoning, &ask.shape.stop, prepared.reasons);
        if ask.shape.tools {
            let (anywhere, first) = tools::begin(options.tool_format);
            sieve = sieve.calls(anywhere, first);
        }
        let created = UNIX_EPOCH.elapsed().map_or(0, |it| it.as_secs());
        Self {
            generation,
            flight,
            model,
            options,
            tools: ask.tools,
            turn,
            decoder: Decoder::behind(&prepared.prompt),
            prepared,
            sieve,
            shape: ask.shape,
            head: Head { id: format!("chatcmpl-{id}"), created, model: ask.model },
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

    fn take(&mut self, chunk: envmill_inference::Chunk) -> Result<Step, Refusal> {
        let mut step = Step::default();
        let ids = chunk.token_ids.clone();
        if self.shape.logprobs {
            let pairs = ids.iter().zip(&chunk.logprobs);
            step.logprobs = Some(pairs.map(|(id, it)| logprob(&self.model, *id, *it)).collect());
        }
        let finished = self.flight.push(chunk)?;
        let text = self.decoder.push(&self.model, &ids).map_err(|it| failed(&it))?;
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
        let is_turn = matches!(finished.finish, Finish::EndOfTurn | Finish::StopToken(_));
        let rest = self.decoder.end(&self.model, is_turn).map_err(|it| failed(&it))?;
        self.sieve.push(&rest, out);
        let mut calls = Vec::new();
        if let Some(called) = self.sieve.end(out) {
            let format = self.options.tool_format;
            match tools::read(format, self.tools.as_deref(), &called, self.turn) {
                Some(read) => calls = read,
                None => self.sieve.uncalled(&called, out),
            }
        }
        let finish = match finished.finish {
            _ if !calls.is_empty() => "tool_calls",
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
        let usage = Usage {
            prompt: seen.map_or(self.prepared.prompt.len(), <[u32]>::len),
            sampled: outcome.token_ids.len(),
            cached: finished.cached_tokens,
        };
        let whole = Bytes::from(self.whole(&said, finish, usage, &outcome, seen));
        let digest = self.prepared.trail.answered(&said);
        // Nothing comes behind the end, so that it is there.
        let node = self.prepared.conversation.take().map(|mut conversation| {
            if let Some(seen) = seen {
                conversation.engine_prompt(seen);
            }
            conversation.sampled(&outcome.token_ids);
            (digest, Node { conversation, chat: self.prepared.chat, said })
        });
        self.flight.answer(finished, whole.clone(), node);
        Ok(Last { calls, finish, usage, whole })
    }

    fn whole(
        &self,
        said: &Message,
        finish: &str,
        usage: Usage,
        outcome: &Outcome,
        seen: Option<&[u32]>,
    ) -> String {
        let pairs = outcome.token_ids.iter().zip(&outcome.logprobs);
        let logprobs = self
            .shape
            .logprobs
            .then(|| pairs.map(|(id, it)| logprob(&self.model, *id, *it)).collect());
        let prompt = seen.unwrap_or(&self.prepared.prompt);
        let ids = self.shape.token_ids.then_some([prompt, &outcome.token_ids]);
        self.head.whole(said, finish, usage, logprobs, ids)
    }
}

fn failed(error: &envmill_chat::TokenError) -> Refusal {
    Refusal::server(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
}
