//! A worker on the bench: sends commands with right generations and waits for what must come.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use envmill_protocol::{Command, Event, Generation, Outcome, Request, ServerId, Slot};

use super::Subject;
use crate::Worker;

/// How long silence must last to count as silence. Too short a time can only miss a fault, never
/// invent one.
const SILENCE: Duration = Duration::from_millis(100);

pub(super) struct Bench<'a> {
    pub(super) subject: &'a dyn Subject,
    pub(super) worker: Box<dyn Worker>,
    batch: Vec<Command>,
    generations: HashMap<Slot, Generation>,
    deadline: Instant,
}

impl<'a> Bench<'a> {
    pub(super) fn new(subject: &'a dyn Subject) -> Self {
        Self {
            subject,
            worker: subject.worker(),
            batch: Vec::new(),
            generations: HashMap::new(),
            deadline: Instant::now() + subject.watchdog(),
        }
    }

    /// Queues a command; the next [`submit`](Self::submit) sends it.
    pub(super) fn queue(&mut self, slot: u32, request: Request) {
        let slot = Slot(slot);
        let generation = self.generations.entry(slot).or_default();
        // Starting near the end makes every suite run wrap around.
        *generation = Generation(generation.0.wrapping_add(u32::MAX / 3 + 1));
        self.batch.push(Command { slot, generation: *generation, request });
    }

    pub(super) fn submit(&mut self) {
        self.worker.submit(&mut self.batch);
        assert!(self.batch.is_empty(), "submit left commands in the batch");
    }

    /// Sends one command and returns its answer.
    pub(super) fn ask(&mut self, slot: u32, request: Request) -> Outcome {
        let name = request.name();
        self.queue(slot, request);
        self.submit();
        let events = self.collect(1);
        let [event] = &events[..] else { panic!("{name}: one answer expected, not {events:?}") };
        assert_eq!(event.slot, Slot(slot), "{name}: the slot is echoed");
        event.outcome.clone()
    }

    /// Waits for at least `count` events. Each must carry the generation of its slot's last command.
    pub(super) fn collect(&mut self, count: usize) -> Vec<Event> {
        let mut events = Vec::new();
        while events.len() < count {
            let left = self.deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "{} of {count} answers came: {events:?}", events.len());
            self.worker.completions(&mut events, left);
        }
        for event in &events {
            let expected = self.generations.get(&event.slot);
            assert_eq!(Some(&event.generation), expected, "{}: the generation", event.slot);
        }
        events
    }

    /// Asserts that nothing more comes.
    pub(super) fn silence(&mut self) {
        let mut events = Vec::new();
        let end = Instant::now() + SILENCE;
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            self.worker.completions(&mut events, left);
            assert!(events.is_empty(), "nothing more was to come: {events:?}");
        }
    }

    /// A slot with a session in an episode.
    pub(super) fn begin(&mut self, slot: u32) {
        assert_eq!(self.ask(slot, open()), Outcome::Opened);
        let parameters = self.subject.reset_parameters(slot.into());
        let outcome = self.ask(slot, Request::Reset { parameters });
        assert!(matches!(outcome, Outcome::Reset(_)), "reset: {outcome:?}");
    }

    pub(super) fn step(&mut self, slot: u32) -> Outcome {
        let action = self.subject.action();
        self.ask(slot, Request::Step { action })
    }

    pub(super) fn assert_steps(&mut self, slot: u32) {
        let outcome = self.step(slot);
        assert!(matches!(outcome, Outcome::Stepped(_)), "step: {outcome:?}");
    }

    pub(super) fn assert_closes(&mut self, slot: u32) {
        assert_eq!(self.ask(slot, Request::Close), Outcome::Closed);
    }
}

pub(super) const fn open() -> Request {
    Request::Open { server: ServerId(0) }
}
