//! A pool of OpenEnv servers behind one URL: what `envmill env serve URL…` puts the front before.
//!
//! Start at [`Gateway`], a worker that knows one server and hands its sessions on to those of a pool. A
//! client's session gets one of the pool's with its first request; requests for which no server has room
//! wait in their order. How many sessions a server holds and how fast they are opened is learned as in a
//! run, by the core's [`Admission`](envmill_core::Admission), and a session that a client has left serves
//! the next one's reset.
//!
//! Deliberately absent: retries of anything that may have reached an environment (but for the reset for
//! which a kept session proves to be gone, outside of production), and fairness between clients.

mod api;
mod description;
mod options;
mod pool;
mod seat;
mod session;

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use envmill_core::Time;
use envmill_protocol::{
    Command, Event, Failure, FailureKind, Generation, Outcome, Phase, Request, SessionFate, Slot,
    openenv::tasks::TaskMethod,
};
use envmill_workers::{Waker, Worker};

pub use self::{
    api::{Answered, Api},
    description::describe,
    options::Options,
};
use self::{
    pool::Pool,
    seat::{Place, Seat},
    session::{Asking, Link, Session},
};

/// How often deadlines are looked at while there are any.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A worker of one server that is a pool of those of another worker.
pub struct Gateway<W> {
    worker: W,
    api: Option<Api>,
    options: Options,
    began: Instant,
    pool: Pool,
    /// The sessions of clients, by their slot at this worker.
    seats: Vec<Seat>,
    /// Those that wait for a session, as they came. May hold some that no longer do.
    waiting: VecDeque<(Slot, Generation)>,
    /// What is under way for them: commands and events of the worker behind.
    commands: Vec<Command>,
    arrived: Vec<Event>,
    /// Events that are not taken yet.
    events: Vec<Event>,
    look_at: Time,
}

impl<W: Worker> Gateway<W> {
    /// A pool of the servers of `worker`, which `urls` names. `api` answers what is asked by HTTP.
    #[must_use]
    pub fn new(worker: W, urls: Vec<String>, api: Option<Api>, options: Options) -> Self {
        Self {
            pool: Pool::new(urls, &options),
            worker,
            api,
            options,
            began: Instant::now(),
            seats: Vec::new(),
            waiting: VecDeque::new(),
            commands: Vec::new(),
            arrived: Vec::new(),
            events: Vec::new(),
            look_at: Time::ZERO,
        }
    }

    fn now(&self) -> Time {
        Time::ZERO + self.began.elapsed()
    }

    /// A command of the front.
    fn take(&mut self, command: Command, now: Time) {
        let Command { slot, generation, request } = command;
        let index = slot.0 as usize;
        if self.seats.len() <= index {
            self.seats.resize_with(index + 1, Seat::default);
        }
        let seat = &mut self.seats[index];
        seat.generation = generation;
        match (request, &seat.place) {
            (Request::Open { .. }, _) => {
                seat.place = Place::Open;
                self.answer(slot, Outcome::Opened);
            }
            (Request::Close, place) => {
                if let Place::At(session) = *place {
                    self.pool.leave(session, now, &mut self.commands);
                }
                seat.place = Place::None;
                self.answer(slot, Outcome::Closed);
            }
            (request, Place::Open) => {
                if let Some(api) = &self.api
                    && let Some((method, params)) = question(&request)
                {
                    api.ask(slot, generation, method, params, self.worker.waker());
                    return;
                }
                self.seats[index].place = Place::Waiting(Asking { request, since: now });
                self.waiting.push_back((slot, generation));
            }
            (request, &Place::At(session)) => {
                self.pool.send(session, request, now, &mut self.commands);
            }
            (_, Place::None | Place::Waiting(_)) => self.fail(slot, disconnected()),
        }
    }

    fn answer(&mut self, slot: Slot, outcome: Outcome) {
        let generation = self.seats[slot.0 as usize].generation;
        self.events.push(Event { slot, generation, outcome });
    }

    /// The session of a seat is gone.
    fn fail(&mut self, slot: Slot, failure: Failure) {
        self.seats[slot.0 as usize].place = Place::None;
        self.answer(slot, Outcome::Failed(failure));
    }

    /// Gives sessions to those that wait, as long as there is room.
    fn settle(&mut self, now: Time) {
        while let Some(&(slot, generation)) = self.waiting.front() {
            let seat = &mut self.seats[slot.0 as usize];
            let Place::Waiting(asking) = &seat.place else {
                self.waiting.pop_front();
                continue;
            };
            if seat.generation != generation {
                self.waiting.pop_front();
                continue;
            }
            if let Some(session) = self.pool.give(slot, asking, now, &mut self.commands) {
                seat.place = Place::At(session);
            } else if let Some(failure) = self.pool.hopeless() {
                self.fail(slot, failure);
            } else if now.since(asking.since) >= self.options.wait_max {
                let failure = self.pool.no_room(self.options.wait_max);
                self.fail(slot, failure);
            } else {
                break;
            }
            self.waiting.pop_front();
        }
        if !self.commands.is_empty() {
            self.worker.submit(&mut self.commands);
        }
    }

    /// An event of the worker behind.
    fn arrive(&mut self, event: Event, now: Time) {
        let Some(session) = self.pool.session(&event) else { return };
        let Session { seat, link, .. } = *session;
        match event.outcome {
            Outcome::Opened => self.pool.opened(event.slot, now, &mut self.commands),
            Outcome::Closed => self.pool.closed(event.slot, now),
            Outcome::Failed(failure) if failure.session == SessionFate::Lost => {
                let again = self.pool.lost(event.slot, &failure, now);
                let Some(seat) = seat else { return };
                match again {
                    Some(asking) => self.wait_again(seat, asking),
                    None => self.fail(seat, failure),
                }
            }
            outcome => {
                self.pool.answered(event.slot, &outcome, now);
                if let (Some(seat), Link::Asked(_)) = (seat, link) {
                    self.answer(seat, outcome);
                }
            }
        }
    }

    /// A request that no environment has seen is first in the queue again, with its time.
    fn wait_again(&mut self, slot: Slot, asking: Asking) {
        let seat = &mut self.seats[slot.0 as usize];
        seat.place = Place::Waiting(asking);
        self.waiting.push_front((slot, seat.generation));
    }

    /// Looks at deadlines.
    fn look(&mut self, now: Time) {
        if now < self.look_at {
            return;
        }
        self.look_at = now + LOOK_EVERY;
        for (seat, phase, again) in self.pool.cut_late(now, &mut self.commands) {
            match again {
                Some(asking) => self.wait_again(seat, asking),
                None => self.fail(seat, late(phase, self.options.limit(phase))),
            }
        }
    }

    /// How long to wait at most, though nothing comes.
    fn patience(&self, now: Time, wait: Duration) -> Duration {
        if !self.events.is_empty() {
            return Duration::ZERO;
        }
        let mut wait = wait;
        if self.pool.has_deadlines() || !self.waiting.is_empty() {
            wait = wait.min(LOOK_EVERY);
        }
        if !self.waiting.is_empty() {
            wait = wait.min(self.pool.wake_at().since(now));
        }
        wait
    }
}

impl<W: Worker> Worker for Gateway<W> {
    fn submit(&mut self, batch: &mut Vec<Command>) {
        let now = self.now();
        for command in batch.drain(..) {
            self.take(command, now);
        }
        self.settle(now);
    }

    fn completions(&mut self, events: &mut Vec<Event>, wait: Duration) {
        let now = self.now();
        self.look(now);
        self.settle(now);
        let patience = self.patience(now, wait);
        self.worker.completions(&mut self.arrived, patience);
        let now = self.now();
        let mut arrived = std::mem::take(&mut self.arrived);
        for event in arrived.drain(..) {
            self.arrive(event, now);
        }
        self.arrived = arrived;
        for Answered { slot, generation, outcome } in self.api.iter().flat_map(Api::answered) {
            if self.seats[slot.0 as usize].generation == generation {
                self.events.push(Event { slot, generation, outcome });
            }
        }
        self.settle(now);
        events.append(&mut self.events);
    }

    fn waker(&self) -> Waker {
        self.worker.waker()
    }
}

/// The question of the Task API that a request is, with its parameters.
fn question(request: &Request) -> Option<(TaskMethod, String)> {
    #[derive(serde::Deserialize)]
    struct Call<'a> {
        method: std::borrow::Cow<'a, str>,
        #[serde(borrow)]
        params: Option<&'a serde_json::value::RawValue>,
    }
    let Request::ToolCall { request } = request else { return None };
    let call: Call<'_> = serde_json::from_slice(request).ok()?;
    let method = TaskMethod::from_method(&call.method)?;
    Some((method, call.params.map_or("{}", |params| params.get()).to_owned()))
}

fn disconnected() -> Failure {
    Failure::lost(FailureKind::Disconnected, "there is no session")
}

fn late(phase: Phase, limit: Option<Duration>) -> Failure {
    let within = limit.unwrap_or_default();
    let message = format!("the environment's server did not answer within {within:?}");
    Failure::lost(FailureKind::Deadline(phase), message)
}
