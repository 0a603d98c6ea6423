//! Workers over the environments in `testing/python/servers`.

use std::time::{Duration, Instant};

use bytes::Bytes;
use envmill_protocol::{Command, Event, Generation, Outcome, Request, ServerId, Slot};
use envmill_python_worker::{Log, OpenEnvClass, Options, PythonWorker, Target};
use envmill_workers::Worker as _;

/// How long a test waits for what must come.
pub(crate) const WATCHDOG: Duration = Duration::from_secs(60);

/// Options for a class of the test environments, in two processes.
pub(crate) fn options(class: &str) -> Options {
    let target = OpenEnvClass { class: class.into(), ..OpenEnvClass::default() };
    let mut options = Options::new(Target::OpenEnvClass(target));
    options.python = envmill_testing::python().expect("run `cargo xtask venv` first");
    options.path = vec![envmill_testing::script("servers")];
    options.processes = 2;
    options.log = Log::Stderr;
    options
}

/// A worker that is driven by hand.
pub(crate) struct Rig {
    pub(crate) worker: PythonWorker,
    generations: Vec<u32>,
    events: Vec<Event>,
}

impl Rig {
    pub(crate) fn start(options: Options) -> Self {
        let (worker, _) = PythonWorker::start(options).expect("the worker starts");
        Self { worker, generations: vec![0; 1024], events: Vec::new() }
    }

    /// Sends a request; its generation.
    pub(crate) fn send(&mut self, slot: u32, request: Request) -> Generation {
        let generation = &mut self.generations[slot as usize];
        *generation += 1;
        let generation = Generation(*generation);
        self.worker.submit(&mut vec![Command { slot: Slot(slot), generation, request }]);
        generation
    }

    /// The next event of a slot.
    pub(crate) fn next(&mut self, slot: u32) -> Outcome {
        let until = Instant::now() + WATCHDOG;
        loop {
            if let Some(at) = self.events.iter().position(|event| event.slot == Slot(slot)) {
                return self.events.remove(at).outcome;
            }
            assert!(Instant::now() < until, "nothing came for slot {slot}");
            self.worker.completions(&mut self.events, Duration::from_millis(100));
        }
    }

    pub(crate) fn ask(&mut self, slot: u32, request: Request) -> Outcome {
        self.send(slot, request);
        self.next(slot)
    }

    pub(crate) fn open(&mut self, slot: u32, server: u32) {
        let outcome = self.ask(slot, Request::Open { server: ServerId(server) });
        assert_eq!(outcome, Outcome::Opened);
    }

    pub(crate) fn reset(&mut self, slot: u32, parameters: &str) -> Outcome {
        self.ask(slot, Request::Reset { parameters: Bytes::copy_from_slice(parameters.as_bytes()) })
    }

    pub(crate) fn step(&mut self, slot: u32, action: &str) -> Outcome {
        self.ask(slot, Request::Step { action: Bytes::copy_from_slice(action.as_bytes()) })
    }
}

/// Lets this much time pass: so that a step is under way, never to wait until something has happened.
pub(crate) fn let_pass(duration: Duration) {
    let end = Instant::now() + duration;
    while let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
    {
        std::thread::park_timeout(left);
    }
}
