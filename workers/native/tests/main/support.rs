//! Sessions of one environment, asked one thing at a time.

use std::time::{Duration, Instant};

use bytes::Bytes;
use envmill_native::{NativeWorker, Parameters, environment};
use envmill_protocol::{
    Command, Event, Failure, Generation, Observed, Outcome, Request, ServerId, Slot,
};
use envmill_workers::Worker;

/// How long a test waits for what must come.
pub(crate) const WATCHDOG: Duration = Duration::from_secs(60);

pub(crate) fn parameters(parameters: &[(&str, &str)]) -> Parameters {
    parameters.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
}

pub(crate) struct Sessions {
    pub(crate) worker: NativeWorker,
    generation: Generation,
}

impl Sessions {
    pub(crate) fn new(name: &str, parameters: &Parameters) -> Self {
        let worker = environment(name, parameters).expect("an environment").worker();
        Self { worker, generation: Generation(0) }
    }

    pub(crate) fn with_session(name: &str, parameters: &Parameters) -> Self {
        let mut sessions = Self::new(name, parameters);
        sessions.open(0);
        sessions
    }

    pub(crate) fn open(&mut self, slot: u32) {
        assert_eq!(self.ask(slot, Request::Open { server: ServerId(0) }), Outcome::Opened);
    }

    pub(crate) fn batch(&mut self, requests: Vec<(u32, Request)>) -> Vec<Event> {
        let count = requests.len();
        self.generation = self.generation.next();
        let mut batch = requests
            .into_iter()
            .map(|(slot, request)| Command {
                slot: Slot(slot),
                generation: self.generation,
                request,
            })
            .collect();
        self.worker.submit(&mut batch);
        let deadline = Instant::now() + WATCHDOG;
        let mut events = Vec::new();
        while events.len() < count {
            assert!(Instant::now() < deadline, "{} of {count} answers", events.len());
            self.worker.completions(&mut events, Duration::from_secs(1));
        }
        events
    }

    pub(crate) fn ask(&mut self, slot: u32, request: Request) -> Outcome {
        self.batch(vec![(slot, request)]).remove(0).outcome
    }

    pub(crate) fn reset(&mut self, parameters: &str) -> Observed {
        match self.ask(0, Request::Reset { parameters: Bytes::from(parameters.to_owned()) }) {
            Outcome::Reset(observed) => observed,
            outcome => panic!("{outcome:?}"),
        }
    }

    pub(crate) fn try_step(&mut self, action: &str) -> Result<Observed, Failure> {
        match self.ask(0, step(action)) {
            Outcome::Stepped(observed) => Ok(observed),
            Outcome::Failed(failure) => Err(failure),
            outcome => panic!("{outcome:?}"),
        }
    }

    pub(crate) fn step(&mut self, action: &str) -> Observed {
        self.try_step(action).unwrap_or_else(|failure| panic!("{action}: {failure}"))
    }
}

pub(crate) fn step(action: &str) -> Request {
    Request::Step { action: Bytes::from(action.to_owned()) }
}

pub(crate) fn text(bytes: &Bytes) -> &str {
    std::str::from_utf8(bytes).expect("UTF-8")
}
