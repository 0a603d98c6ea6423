//! Questions to a worker one after another, each waited for: what has to be known before a run.

use std::time::{Duration, Instant};

use envmill_protocol::{
    Command, Failure, FailureKind, Generation, Outcome, Phase, Request, ServerId, Slot,
};

use crate::Worker;

/// Where questions are asked: nothing else may be under way on the worker.
const SLOT: Slot = Slot(0);

/// Asks a worker on one session, and waits.
#[derive(Debug)]
pub struct Asker<W> {
    worker: W,
    generation: Generation,
    within: Duration,
    until: Instant,
}

impl<W: Worker> Asker<W> {
    /// Asks `worker`, for all answers together at most as long as `within`.
    #[must_use]
    pub fn new(worker: W, within: Duration) -> Self {
        Self { worker, generation: Generation::default(), within, until: Instant::now() + within }
    }

    /// The worker.
    pub const fn worker(&mut self) -> &mut W {
        &mut self.worker
    }

    /// Whether the time is over.
    #[must_use]
    pub fn is_late(&self) -> bool {
        self.until <= Instant::now()
    }

    /// Opens a session on server 0.
    ///
    /// # Errors
    ///
    /// As [`ask`](Self::ask).
    pub fn open(&mut self) -> Result<(), Failure> {
        self.ask(Request::Open { server: ServerId(0) }).map(drop)
    }

    /// What comes of a request.
    ///
    /// # Errors
    ///
    /// What it failed with, or that there was no answer in time; the session counts as lost then.
    pub fn ask(&mut self, request: Request) -> Result<Outcome, Failure> {
        let generation = self.send(request);
        let mut events = Vec::new();
        loop {
            self.worker.completions(&mut events, Duration::from_millis(100));
            if let Some(event) = events.drain(..).find(|event| event.generation == generation) {
                return match event.outcome {
                    Outcome::Failed(failure) => Err(failure),
                    outcome => Ok(outcome),
                };
            }
            if self.is_late() {
                let kind = FailureKind::Deadline(Phase::FirstReset);
                return Err(Failure::lost(kind, format!("no answer within {:?}", self.within)));
            }
        }
    }

    /// Closes the session, without waiting for that.
    pub fn close(&mut self) {
        self.send(Request::Close);
    }

    fn send(&mut self, request: Request) -> Generation {
        self.generation = self.generation.next();
        let generation = self.generation;
        self.worker.submit(&mut vec![Command { slot: SLOT, generation, request }]);
        generation
    }
}
