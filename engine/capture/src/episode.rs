//! An open episode: what its calls have come to so far.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Instant,
};

use axum::http::StatusCode;
use bytes::Bytes;
use envmill_chat::{Conversation, Message};
use envmill_inference::{Chunk, Finished, Outcome, RequestId, TopLogprobs};
use envmill_protocol::{Generated, GeneratedKind, record::shorten_prompt};
use tokio::sync::watch;

use crate::{
    Begun, Captured, End, Kept, Limits, Timings,
    captured::Call,
    ends::{self, Ends},
    held::{Held, Past},
    key::Digest,
    kinds::{self, Facts},
    refusal::Refusal,
    trace,
    trail::Trail,
};

/// An open episode. Its lock is held for as long as it takes to write something down.
pub(crate) struct Episode {
    pub(crate) opened: Instant,
    /// No call is taken from then on.
    pub(crate) deadline: Option<Instant>,
    /// Its calls are best answered by the same replica.
    pub(crate) affinity: u64,
    pub(crate) limits: Limits,
    state: Mutex<State>,
    over: watch::Sender<bool>,
}

#[derive(Default)]
struct State {
    held: Held,
    /// The latest call whose messages and answer have this digest.
    answers: HashMap<Digest, usize>,
    /// Where the ids of calls without messages end.
    ends: Ends,
    running: usize,
    refused: u32,
    is_over: bool,
}

/// A call, from the moment its prompt is known.
pub(crate) struct Record {
    pub(crate) id: RequestId,
    pub(crate) parent: Option<usize>,
    pub(crate) begun: Begun,
    pub(crate) identity: Digest,
    pub(crate) aside: bool,
    pub(crate) prompt: Arc<[u32]>,
    /// The text of a JSON object.
    pub(crate) sampling: Bytes,
    pub(crate) outcome: Outcome,
    pub(crate) request: Kept,
    pub(crate) response: Kept,
    /// `None` while it runs.
    pub(crate) end: Option<End>,
    pub(crate) asked: Instant,
    pub(crate) timings: Timings,
}

/// A conversation up to an answer.
pub(crate) struct Node {
    pub(crate) conversation: Conversation,
    /// The chat that it is of.
    pub(crate) chat: Digest,
    pub(crate) said: Message,
}

impl Episode {
    pub(crate) fn new(deadline: Option<Instant>, affinity: u64, limits: Limits) -> Self {
        let opened = Instant::now();
        let (state, over) = (Mutex::default(), watch::Sender::new(false));
        Self { opened, deadline, affinity, limits, state, over }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a call in, if there is room for it.
    pub(crate) fn admit(self: &Arc<Self>) -> Result<Flight, Refusal> {
        self.admitted().inspect_err(|refusal| {
            // Whom nobody knows is not counted.
            if refusal.status != StatusCode::UNAUTHORIZED {
                self.refused();
            }
        })
    }

    fn admitted(self: &Arc<Self>) -> Result<Flight, Refusal> {
        let mut state = self.state();
        if state.is_over {
            return Err(Refusal::key("The episode of this API key has ended."));
        }
        let full = |what: &str| {
            let message = format!("This episode is full: {what}.");
            Refusal::invalid(StatusCode::FORBIDDEN, message, Some("episode_full"))
        };
        let limits = &self.limits;
        if state.running >= limits.calls_at_once {
            Err(Refusal::busy(format!("{} calls of this episode run already.", state.running)))
        } else if state.held.len() + state.running >= limits.calls {
            Err(full(&format!("it has made {} calls", state.held.len())))
        } else if state.held.bytes() >= limits.episode_bytes {
            Err(full(&format!("its calls take {} bytes", state.held.bytes())))
        } else {
            state.running += 1;
            let call = Arc::default();
            Ok(Flight { episode: Arc::clone(self), index: None, ended: false, call })
        }
    }

    pub(crate) fn refused(&self) {
        self.state().refused += 1;
    }

    /// The latest answered call that these messages continue, how many of them it had with its answer,
    /// and what it has come to.
    pub(crate) fn continued(
        &self,
        messages: &[Message],
        trail: &Trail,
    ) -> Option<(usize, usize, Past)> {
        let state = self.state();
        (1..messages.len()).rev().filter(|it| messages[it - 1].is_assistant()).find_map(|count| {
            let index = *state.answers.get(trail.until(count)?)?;
            let said = state.held.said(index)?;
            // Reasoning that was handed back otherwise than it was given is another past.
            let back = messages[count - 1].reasoning.as_deref().map(str::trim);
            let same = back.is_none_or(|it| it == said.reasoning.as_deref().unwrap_or("").trim());
            same.then(|| Some((index, count, state.held.past(index)?))).flatten()
        })
    }

    /// The latest call without messages whose ids, sampled ones included, this prompt begins with. Of several
    /// it is that with the most ids.
    pub(crate) fn began(&self, prompt: &[u32]) -> Option<usize> {
        // Hashing takes a while; the lock is not held meanwhile.
        let lengths = self.state().ends.within(prompt.len());
        let digests = ends::digests(prompt, &lengths);
        let state = self.state();
        digests.iter().rev().find_map(|it| state.ends.call(it))
    }

    /// Bytes that its calls take in memory.
    pub(crate) fn bytes(&self) -> usize {
        self.state().held.bytes()
    }

    /// Waits until the episode is over.
    pub(crate) async fn ended(&self) {
        let mut over = self.over.subscribe();
        let over = over.wait_for(|it| *it);
        match self.deadline {
            Some(deadline) => {
                let _ = tokio::time::timeout_at(deadline.into(), over).await;
            }
            None => {
                let _ = over.await;
            }
        }
    }

    /// Ends the episode. Gives what it came to, and the requests that still run.
    pub(crate) fn close(&self) -> (Captured, Vec<RequestId>) {
        let mut state = self.state();
        state.is_over = true;
        let mut held = std::mem::take(&mut state.held);
        state.answers.clear();
        let refused = state.refused;
        drop(state);
        self.over.send_replace(true);
        let running = held.end_all();
        (captured(held, refused), running)
    }
}

fn captured(mut held: Held, refused: u32) -> Captured {
    let (records, requests) = held.take_records();
    let facts: Vec<_> = records
        .iter()
        .enumerate()
        .map(|(index, it)| facts(it, held.sampled(index).len()))
        .collect();
    let kinds = kinds::kinds(&facts);
    let branches = kinds::branches(&facts, &kinds);
    let mut captured = Captured { branches, refused, requests, ..Captured::default() };
    for (index, (record, kind)) in records.into_iter().zip(kinds).enumerate() {
        captured.auxiliary += u32::from(kind == GeneratedKind::Auxiliary);
        let parent_generation = record.parent.and_then(|it| captured.calls.get(it)?.generation);
        let (end, parent) = (record.end.unwrap_or(End::Closed), record.parent.map(trace::count));
        let sampled = held.sampled(index);
        let generation = (!sampled.is_empty()).then(|| {
            let tool = held.said(index).map_or_else(String::new, Message::tools_called);
            let outcome = Outcome { token_ids: sampled.to_vec(), ..record.outcome };
            let (prompt, timings) = (held.prompt(index), record.timings);
            let generated = trace::generated(&prompt, outcome, parent_generation, kind, timings);
            let mut generated = Generated { tool, ..generated };
            // A prompt that is whole shares nothing that could be missing. One that is too long to be counted
            // stays whole.
            let _ = shorten_prompt(&captured.generations, &mut generated);
            captured.generations.push(generated);
            trace::count(captured.generations.len() - 1)
        });
        captured.calls.push(Call {
            generation,
            parent,
            begun: record.begun,
            kind,
            end,
            sampling: record.sampling,
            response: record.response,
            timings: record.timings,
        });
    }
    captured
}

fn facts(record: &Record, sampled: usize) -> Facts {
    Facts {
        identity: record.identity,
        parent: record.parent,
        appends: record.begun == Begun::Continued,
        aside: record.aside,
        is_answered: matches!(record.end, Some(End::Answered(_))),
        sampled,
    }
}

/// A call under way. Dropped before its end, it is one whose client has hung up.
pub(crate) struct Flight {
    pub(crate) episode: Arc<Episode>,
    index: Option<usize>,
    ended: bool,
    /// How the call ended without an answer: as the first of its choices did, whatever becomes of the others.
    call: Arc<OnceLock<End>>,
}

impl Flight {
    /// Lets another choice of the same call in, if there is room for it.
    pub(crate) fn another(&self) -> Result<Self, Refusal> {
        let mut another = self.episode.admitted()?;
        another.call = Arc::clone(&self.call);
        Ok(another)
    }

    /// Writes down that the call's prompt goes to the inference engine now. Gives its index.
    pub(crate) fn begin(&mut self, mut record: Record) -> Result<u32, Refusal> {
        let mut state = self.episode.state();
        if state.is_over {
            return Err(Refusal::key("The episode of this API key has ended."));
        }
        record.timings.asked_us = micros(self.episode.opened, record.asked);
        record.timings.queue_us = micros(record.asked, Instant::now());
        let index = state.held.begin(record);
        self.index = Some(index);
        Ok(trace::count(index))
    }

    /// Writes down what was sampled. Gives how the generation ended, if it has.
    pub(crate) fn push(&self, chunk: Chunk) -> Result<Option<Finished>, Refusal> {
        let mut state = self.episode.state();
        let ended = || Refusal::key("The episode of this API key has ended.");
        let record = self.index.and_then(|it| state.held.get_mut(it)).ok_or_else(ended)?;
        let sent = record.timings.asked_us + record.timings.queue_us;
        let now = micros(self.episode.opened, Instant::now()).saturating_sub(sent);
        if record.outcome.token_ids.is_empty() {
            record.timings.first_token_us = now;
        }
        record.timings.generation_us = now;
        let is_last = record.outcome.push(chunk).map_err(|error| Refusal::from(&error))?;
        Ok(is_last.then(|| record.outcome.finished.clone()).flatten())
    }

    /// Everything that was sampled.
    pub(crate) fn outcome(&self) -> Outcome {
        let state = self.episode.state();
        let record = self.index.and_then(|it| state.held.get(it));
        record.map(|it| it.outcome.clone()).unwrap_or_default()
    }

    /// Writes down where the ids of a call without messages end, so that another may go on from there.
    pub(crate) fn completed(&self, ids: &[&[u32]]) {
        let Some(index) = self.index else { return };
        let (digest, length) = ends::digest(ids);
        self.episode.state().ends.add(digest, length, index);
    }

    /// Writes down the answer, before the client is given the end of it: then it may come back with it.
    pub(crate) fn answer(
        &mut self,
        finished: &Finished,
        response: Bytes,
        known: Option<(Digest, Node)>,
    ) {
        self.ended = true;
        let mut state = self.episode.state();
        let Some((index, record)) = self.index.and_then(|it| Some((it, state.held.get_mut(it)?)))
        else {
            return;
        };
        record.end = Some(End::Answered(finished.finish.clone()));
        record.response = Kept::of(response, self.episode.limits.kept_bytes);
        // They are in the answer, and nowhere else.
        record.outcome.top_logprobs = TopLogprobs::default();
        let Timings { asked_us, queue_us, generation_us, .. } = record.timings;
        let before = asked_us + queue_us + generation_us;
        record.timings.answer_us =
            micros(self.episode.opened, Instant::now()).saturating_sub(before);
        // What the engine has seen is what was sampled from.
        state.held.ended(index, finished.prompt.as_deref());
        if let Some((digest, node)) = known {
            state.held.answered(index, node);
            state.answers.insert(digest, index);
        }
    }

    /// Writes down that there is no answer, unless there was one.
    pub(crate) fn end(&mut self, end: End) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        let end = self.call.get_or_init(|| end).clone();
        let mut state = self.episode.state();
        let Some(index) = self.index else { return };
        if let Some(record) = state.held.get_mut(index) {
            record.end = Some(end);
            state.held.ended(index, None);
        }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        if !self.ended {
            self.end(End::HungUp);
        }
        self.episode.state().running -= 1;
    }
}

fn micros(from: Instant, to: Instant) -> u64 {
    u64::try_from(to.saturating_duration_since(from).as_micros()).unwrap_or(u64::MAX)
}
