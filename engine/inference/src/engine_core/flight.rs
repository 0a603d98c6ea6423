//! The generations under way.

use std::collections::{HashMap, hash_map};

use envmill_protocol::{PolicyVersion, VersionSpan};

use super::{
    decode::{End, Output, Step},
    id::Place,
};
use crate::{Chunk, Deliver, Error, ErrorKind, Feed, Finish, Finished, RequestId};

/// Room for so many tokens is made at once; for more, as they come.
const ROOM: usize = 4096;

/// A generation under way.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) id: RequestId,
    pub(super) feed: Feed,
    pub(super) deliver: Deliver,
    /// Log-probabilities were asked for.
    pub(super) logprobs: bool,
    /// So many of the most likely tokens were asked for.
    pub(super) top_logprobs: u32,
    /// It is held to a constraint.
    pub(super) is_held: bool,
    /// It asked not to end at the end of a turn.
    pub(super) ignore_eos: bool,
    pub(super) max_tokens: u32,
    /// What was sampled, if it is delivered whole.
    gathered: Chunk,
    sampled: u32,
    versions: Vec<VersionSpan>,
    cached: Option<u32>,
    queued_us: Option<u64>,
}

/// All of them, by their places.
#[derive(Debug, Default)]
pub(super) struct Flights {
    slots: Vec<Slot>,
    free: Vec<u32>,
    by_id: HashMap<RequestId, Place>,
}

#[derive(Debug, Default)]
struct Slot {
    /// How often it has been used, so that an output that comes late finds nothing.
    round: u32,
    flight: Option<Flight>,
}

impl Flight {
    pub(super) fn new(id: RequestId, feed: Feed, deliver: Deliver, max_tokens: u32) -> Self {
        let room = match deliver {
            Deliver::Whole => (max_tokens as usize).min(ROOM),
            Deliver::Streamed => 0,
        };
        Self {
            id,
            feed,
            deliver,
            logprobs: false,
            top_logprobs: 0,
            is_held: false,
            ignore_eos: false,
            max_tokens,
            gathered: Chunk { token_ids: Vec::with_capacity(room), ..Chunk::default() },
            sampled: 0,
            versions: Vec::new(),
            cached: None,
            queued_us: None,
        }
    }

    /// Takes what a step brought; `Some` if that is the end.
    pub(super) fn take(
        &mut self,
        output: &Output,
        step: &Step,
        version: PolicyVersion,
        eos: &[u32],
    ) -> Option<Result<Finish, Error>> {
        let nonsense = |message: &str| Some(Err(Error::new(ErrorKind::Nonsense, message)));
        let tokens = step.tokens.get(output.tokens.clone()).unwrap_or_default();
        let logprobs = output.logprobs.clone().and_then(|it| step.logprobs.get(it));
        let logprobs = logprobs.unwrap_or_default();
        // No more tokens than a message has bytes.
        let count = u32::try_from(tokens.len()).unwrap_or(u32::MAX);
        if count > self.max_tokens - self.sampled {
            return nonsense("more tokens than were asked for");
        }
        if self.logprobs && logprobs.len() != tokens.len() {
            return nonsense("tokens without the log-probabilities that were asked for");
        }
        let logprobs = if self.logprobs { logprobs } else { &[] };
        if self.top_logprobs > 0 && count > 0 {
            let top = step.top.get(output.top.clone()).unwrap_or_default();
            let columns = top.len() / tokens.len();
            if columns < self.top_logprobs as usize {
                return nonsense("tokens without the most likely ones that were asked for");
            }
            for place in top.chunks_exact(columns) {
                // Another request of the same step may have asked for more.
                let place = &place[..self.top_logprobs as usize];
                self.gathered.top_logprobs.push(place.iter().copied(), self.top_logprobs);
            }
        }
        self.sampled += count;
        self.cached = self.cached.or(output.cached);
        self.queued_us = self.queued_us.or(output.queued_us);
        VersionSpan::add(&mut self.versions, version, count);
        self.gathered.version = version;
        self.gathered.token_ids.extend_from_slice(tokens);
        if !logprobs.is_empty() {
            let room = self.gathered.token_ids.capacity();
            if self.gathered.logprobs.is_empty() {
                self.gathered.logprobs.reserve_exact(room);
            }
            self.gathered.logprobs.extend_from_slice(logprobs);
        }
        Some(match output.end {
            None => {
                if self.deliver == Deliver::Streamed && count > 0 {
                    self.feed.chunk(std::mem::take(&mut self.gathered));
                }
                return None;
            }
            Some(End::Turn) => Ok(Finish::EndOfTurn),
            Some(End::Stop(token)) if !self.ignore_eos && eos.contains(&token) => {
                Ok(Finish::EndOfTurn)
            }
            Some(End::Stop(token)) => Ok(Finish::StopToken(token)),
            Some(End::Length) => Ok(Finish::Length),
            Some(End::Abort) => Ok(Finish::Aborted),
            // A grammar that cannot be made is all that fails for a single request before its first token.
            Some(End::Failed) if self.is_held && self.sampled == 0 => {
                let message = "the constraint cannot be made a grammar of; its log says why";
                Err(Error::new(ErrorKind::Refused, message))
            }
            Some(End::Failed) => {
                let message =
                    "it says that something failed in it for this request; its log says what";
                Err(Error::new(ErrorKind::Lost, message))
            }
            Some(End::Odd(reason)) => {
                let message =
                    format!("a generation that ended for reason {reason}, which is not known");
                Err(Error::new(ErrorKind::Nonsense, message))
            }
        })
    }

    /// Tells of the end.
    pub(super) fn end(self, end: Result<Finish, Error>) {
        match end {
            Ok(finish) => {
                let mut chunk = self.gathered;
                let versions = self.versions;
                let (cached_tokens, queue_us) = (self.cached, self.queued_us);
                chunk.finished =
                    Some(Finished { versions, cached_tokens, queue_us, ..Finished::new(finish) });
                self.feed.chunk(chunk);
            }
            Err(error) => self.feed.fail(error),
        }
    }
}

impl Flights {
    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// The place where the next one of this id will stand; `None`: one of this id is under way.
    pub(super) fn room(&mut self, id: RequestId) -> Option<Place> {
        let hash_map::Entry::Vacant(vacant) = self.by_id.entry(id) else { return None };
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            // The caller bounds how many are under way.
            u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
        });
        let place = Place { slot, round: self.slots.get(slot as usize).map_or(0, |it| it.round) };
        vacant.insert(place);
        Some(place)
    }

    /// Puts it into the place that was made for it.
    pub(super) fn put(&mut self, place: Place, flight: Flight) {
        if let Some(slot) = self.slots.get_mut(place.slot as usize) {
            slot.flight = Some(flight);
        }
    }

    pub(super) fn get_mut(&mut self, place: Place) -> Option<&mut Flight> {
        let slot = self.slots.get_mut(place.slot as usize)?;
        slot.flight.as_mut().filter(|_| slot.round == place.round)
    }

    pub(super) fn place(&self, id: RequestId) -> Option<Place> {
        self.by_id.get(&id).copied()
    }

    /// Takes one out; its place is free.
    pub(super) fn remove(&mut self, place: Place) -> Option<Flight> {
        let slot = self.slots.get_mut(place.slot as usize)?;
        let flight = slot.flight.take_if(|_| slot.round == place.round)?;
        slot.round = slot.round.wrapping_add(1);
        self.free.push(place.slot);
        self.by_id.remove(&flight.id);
        Some(flight)
    }

    /// Takes all out.
    pub(super) fn drain(&mut self) -> Vec<(Place, Flight)> {
        let places: Vec<_> = self.by_id.values().copied().collect();
        places.into_iter().filter_map(|it| Some((it, self.remove(it)?))).collect()
    }
}
