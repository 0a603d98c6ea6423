//! A worker with its hands on the table.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use bytes::Bytes;
use envmill_openenv::{Metrics, OpenEnvWorker, Options, Server};
use envmill_protocol::{
    Command, Event, Failure, FailureKind, Generation, Outcome, Request, ServerId, SessionFate, Slot,
};
use envmill_workers::Worker as _;

/// How long a test waits for what must happen before it gives up.
pub(crate) const WATCHDOG: Duration = Duration::from_secs(60);

pub(crate) struct Rig {
    pub(crate) worker: OpenEnvWorker,
    events: VecDeque<Event>,
    generation: Generation,
}

pub(crate) fn step() -> Request {
    Request::Step { action: Bytes::from_static(b"{}") }
}

pub(crate) fn reset() -> Request {
    Request::Reset { parameters: Bytes::new() }
}

pub(crate) const OPEN: Request = Request::Open { server: ServerId(0) };

impl Rig {
    pub(crate) fn new(url: impl Into<String>) -> Self {
        Self::with(Options::new(vec![Server::new(url)]))
    }

    pub(crate) fn with(options: Options) -> Self {
        let worker = OpenEnvWorker::new(options).unwrap();
        Self { worker, events: VecDeque::new(), generation: Generation(0) }
    }

    /// With one session open, in slot 0.
    pub(crate) fn open(url: impl Into<String>) -> Self {
        let mut rig = Self::new(url);
        assert_eq!(rig.ask(0, OPEN), Outcome::Opened);
        rig
    }

    pub(crate) fn submit(&mut self, slot: u32, request: Request) -> Generation {
        self.generation = self.generation.next();
        let command = Command { slot: Slot(slot), generation: self.generation, request };
        self.worker.submit(&mut vec![command]);
        self.generation
    }

    /// The next event, whichever slot it is of.
    pub(crate) fn next(&mut self) -> Event {
        let started = Instant::now();
        loop {
            if let Some(event) = self.events.pop_front() {
                return event;
            }
            assert!(started.elapsed() < WATCHDOG, "no event");
            self.look(Duration::from_secs(1));
        }
    }

    pub(crate) fn look(&mut self, wait: Duration) {
        let mut events = Vec::new();
        self.worker.completions(&mut events, wait);
        self.events.extend(events);
    }

    /// Sends one command and waits for its answer, which must be the next event.
    pub(crate) fn ask(&mut self, slot: u32, request: Request) -> Outcome {
        let generation = self.submit(slot, request);
        let event = self.next();
        assert_eq!((event.slot, event.generation), (Slot(slot), generation), "{event:?}");
        event.outcome
    }

    /// The failure that a command is answered with; the session is lost.
    pub(crate) fn lost(&mut self, slot: u32, request: Request) -> Failure {
        let outcome = self.ask(slot, request);
        let Outcome::Failed(failure) = outcome else { panic!("not failed: {outcome:?}") };
        assert_eq!(failure.session, SessionFate::Lost, "{failure}");
        failure
    }

    /// The failure of an idle session; the next event.
    pub(crate) fn lost_idle(&mut self, slot: u32) -> Failure {
        let last = self.generation;
        let event = self.next();
        assert_eq!((event.slot, event.generation), (Slot(slot), last), "{event:?}");
        let Outcome::Failed(failure) = event.outcome else { panic!("not failed: {event:?}") };
        assert_eq!(failure.session, SessionFate::Lost, "{failure}");
        failure
    }

    /// Opens, which must fail.
    pub(crate) fn refused(url: impl Into<String>) -> Failure {
        Self::new(url).lost(0, OPEN)
    }

    pub(crate) fn metrics(&self) -> Metrics {
        self.worker.metrics()
    }

    /// Looks until `done` says so.
    pub(crate) fn until(&mut self, mut done: impl FnMut(&mut Self) -> bool) {
        let started = Instant::now();
        while !done(self) {
            assert!(started.elapsed() < WATCHDOG, "not done");
            self.look(Duration::from_millis(20));
        }
    }

    /// Nothing more is coming, as far as can be seen.
    pub(crate) fn assert_quiet(&mut self) {
        for _ in 0..5 {
            self.look(Duration::from_millis(10));
        }
        assert_eq!(self.events, []);
    }

    /// The session in this slot is gone: commands fail, closing does not, and it can be opened anew.
    pub(crate) fn assert_gone(&mut self, slot: u32) {
        let _ = self.lost(slot, step());
        assert_eq!(self.lost(slot, step()).kind, FailureKind::Disconnected);
        assert_eq!(self.ask(slot, Request::Close), Outcome::Closed);
        self.assert_quiet();
    }
}
