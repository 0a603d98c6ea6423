//! What is known of the engine and of the generations under way, and what is still to be written to it.
//!
//! All of it is behind one lock, which is held for as long as it takes to write a request into a buffer or
//! to hand out what a step brought: microseconds. Nothing waits while it is held.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use envmill_protocol::PolicyVersion;
use tokio::sync::{oneshot, watch};

use super::{
    EngineCoreOptions,
    check::check,
    decode::{End, Step},
    encode::{self, Arguments},
    flight::{Flight, Flights},
    id::{self, Place},
    life::{Connection, Known, Phase, Way},
};
use crate::{Error, ErrorKind, Feed, Finish, Load, Request, RequestId};

/// So many calls wait for their answers at most.
const CALLS: usize = 256;
/// So many requests of a client before us wait to be ended at most; others are met again.
const ABORTS: usize = 4096;

/// Shared by the channel, its generations, and the tasks that read and write.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) options: EngineCoreOptions,
    /// Tells our requests from those of a client before us at the same engine.
    pub(super) run: u32,
    pub(super) phase: watch::Sender<Phase>,
    state: Mutex<State>,
}

/// The answer to a call, once it comes.
pub(super) type Called = oneshot::Receiver<Result<(), Error>>;

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) known: Option<Known>,
    pub(super) flights: Flights,
    pub(super) ways: [Option<Connection>; 2],
    pub(super) serial: u64,
    pub(super) out: Vec<u8>,
    /// To be aborted, by their names there.
    pub(super) aborts: Vec<String>,
    pub(super) calls: HashMap<u64, oneshot::Sender<Result<(), Error>>>,
    next_call: u64,
    pub(super) load: Option<Load>,
    /// The version that was set last.
    pub(super) version: PolicyVersion,
    /// The engine was asked to end what is under way.
    pub(super) ending: bool,
}

impl Shared {
    pub(super) fn new(options: EngineCoreOptions, run: u32, known: Option<Known>) -> Self {
        let state = State { known, ..State::default() };
        let (phase, _) = watch::channel(Phase::Starting);
        Self { options, run, phase, state: Mutex::new(state) }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is held; if something does, what is there is still sound.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why the engine cannot be asked, if it cannot.
    pub(super) fn up(&self) -> Result<(), Error> {
        match &*self.phase.borrow() {
            Phase::Ready => Ok(()),
            Phase::Starting => {
                Err(Error::new(ErrorKind::Busy, "the engine has not said that it is ready"))
            }
            Phase::Down(error) => Err(error.clone()),
        }
    }

    /// Writes a request, behind what else is to be written.
    pub(super) fn submit(&self, request: &Request, feed: Feed) -> Result<Place, Error> {
        self.up()?;
        let mut state = self.lock();
        // It may have been lost between the two lines above, and told all that were under way then.
        let Some(known) = state.known.filter(|_| state.ways.iter().all(Option::is_some)) else {
            return Err(Error::new(ErrorKind::Lost, "the engine has just been lost"));
        };
        let facts = &self.options.facts;
        let checked = check(request, facts, known.max_model_len.min(facts.max_model_len))?;
        if state.flights.len() >= self.options.in_flight {
            let message = format!("{} generations are under way", self.options.in_flight);
            return Err(Error::new(ErrorKind::Busy, message));
        }
        if state.out.len() >= self.options.unsent_bytes {
            let message = format!("it has not taken {} bytes of earlier requests", state.out.len());
            return Err(Error::new(ErrorKind::Busy, message));
        }
        let Some(place) = state.flights.room(request.id) else {
            let message = format!("a generation {} is under way", request.id);
            return Err(Error::new(ErrorKind::Refused, message));
        };
        let mut flight = Flight::new(request.id, feed, request.deliver, checked.max_tokens);
        flight.logprobs = request.sampling.logprobs;
        flight.top_logprobs = request.sampling.top_logprobs;
        flight.is_held = request.sampling.constraint.is_some();
        flight.ignore_eos = request.sampling.ignore_eos;
        state.flights.put(place, flight);
        let name = id::name(request.id, self.run, place);
        state.unsent(|out| encode::add(out, &name, request, checked, facts));
        Ok(place)
    }

    /// Nobody wants this generation any more.
    pub(super) fn dropped(&self, place: Place) {
        let mut state = self.lock();
        if let Some(flight) = state.flights.remove(place) {
            state.abort(id::name(flight.id, self.run, place));
        }
    }

    /// Ends these with what they have: the engine says nothing of requests that are aborted.
    pub(super) fn abort(&self, requests: &[RequestId]) {
        let mut state = self.lock();
        for it in requests {
            let Some(place) = state.flights.place(*it) else { continue };
            let Some(flight) = state.flights.remove(place) else { continue };
            state.abort(id::name(flight.id, self.run, place));
            flight.end(Ok(Finish::Aborted));
        }
    }

    /// Hands out what a step brought; false if the connection is no longer the engine's.
    pub(super) fn apply(&self, step: &mut Step, serial: u64) -> bool {
        let mut state = self.lock();
        let state = &mut *state;
        if !state.is(Way::Output, serial) {
            return false;
        }
        let version = step.version.unwrap_or(state.version);
        for output in &step.outputs {
            let Some(flight) = state.flights.get_mut(output.place) else { continue };
            let end = flight.take(output, step, version, &self.options.facts.eos_token_ids);
            let Some(end) = end else { continue };
            let end = match end {
                Ok(Finish::Aborted) if !state.ending => {
                    let message =
                        "it ended the generation unasked, as it does when it is shut down";
                    Err(Error::new(ErrorKind::Lost, message))
                }
                end => end,
            };
            let Some(flight) = state.flights.remove(output.place) else { continue };
            if output.end.is_none_or(|it| matches!(it, End::Odd(_))) {
                state.abort(id::name(flight.id, self.run, output.place));
            }
            flight.end(end);
        }
        for it in step.strangers.drain(..) {
            if state.aborts.len() < ABORTS {
                state.abort(it);
            }
        }
        if let Some(stats) = step.stats {
            let load = state.load.get_or_insert_default();
            load.running = stats.running;
            load.waiting = stats.waiting;
            load.kv_cache = stats.kv_cache;
            load.prefix_queries = load.prefix_queries.saturating_add(stats.prefix_queries);
            load.prefix_hits = load.prefix_hits.saturating_add(stats.prefix_hits);
        }
        if let Some(answer) = step.utility.take()
            && let Some(caller) = state.calls.remove(&answer.call)
        {
            let answer = match answer.failure {
                None => Ok(()),
                Some(failure) => Err(Error::new(ErrorKind::Refused, failure)),
            };
            // Nobody may wait for it any more.
            let _ = caller.send(answer);
        }
        true
    }

    /// A step could not be read. Nobody knows whose tokens it brought, so none that is under way can be
    /// trusted to be whole: all of them fail, and the engine, which may be sound, is told to end them.
    pub(super) fn nonsense(&self, serial: u64, error: &Error) {
        let mut state = self.lock();
        if !state.is(Way::Output, serial) {
            return;
        }
        for (place, flight) in state.flights.drain() {
            state.abort(id::name(flight.id, self.run, place));
            flight.end(Err(error.clone()));
        }
    }

    /// Calls a method of the engine.
    pub(super) fn call(&self, method: &str, arguments: Arguments<'_>) -> Result<Called, Error> {
        self.up()?;
        let mut state = self.lock();
        state.calls.retain(|_, it| !it.is_closed());
        if state.calls.len() >= CALLS {
            return Err(Error::new(ErrorKind::Busy, format!("it has not answered {CALLS} calls")));
        }
        let (sender, answer) = oneshot::channel();
        let call = state.next_call;
        state.next_call += 1;
        state.calls.insert(call, sender);
        state.unsent(|out| encode::utility(out, call, method, arguments));
        Ok(answer)
    }

    /// Everything there is to write, in exchange for an empty buffer; false if the connection is no longer
    /// the engine's.
    pub(super) fn unsent(&self, serial: u64, empty: &mut Vec<u8>) -> bool {
        let mut state = self.lock();
        if !state.is(Way::Input, serial) {
            return false;
        }
        if !state.aborts.is_empty() {
            // Behind the requests that they end.
            let aborts = std::mem::take(&mut state.aborts);
            encode::abort(&mut state.out, &aborts);
        }
        std::mem::swap(&mut state.out, empty);
        true
    }
}

impl State {
    pub(super) fn is(&self, way: Way, serial: u64) -> bool {
        self.ways[way as usize].as_ref().is_some_and(|it| it.serial == serial)
    }

    /// Adds to what is to be written, and wakes the writer if it has nothing else.
    fn unsent(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        if self.out.is_empty() && self.aborts.is_empty() {
            self.wake();
        }
        write(&mut self.out);
    }

    pub(super) fn abort(&mut self, name: String) {
        if self.out.is_empty() && self.aborts.is_empty() {
            self.wake();
        }
        self.aborts.push(name);
    }

    fn wake(&self) {
        if let Some(input) = &self.ways[Way::Input as usize] {
            input.wake.notify_one();
        }
    }
}
