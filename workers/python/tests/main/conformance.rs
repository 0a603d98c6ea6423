//! The suite that every worker passes.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use envmill_protocol::{Command, Event, Generation, Request, Slot};
use envmill_python_worker::{Options, PythonWorker};
use envmill_workers::{Waker, Worker, conformance};

use crate::rig::options;

/// How many slots a check may use.
const WINDOW: u32 = 1024;

/// One worker for all checks, since Python takes seconds to start: each sees slots of its own.
struct Bench {
    worker: Arc<Mutex<PythonWorker>>,
    windows: AtomicU32,
}

impl Bench {
    fn start(options: Options) -> Self {
        let (worker, _) = PythonWorker::start(options).expect("the worker starts");
        Self { worker: Arc::new(Mutex::new(worker)), windows: AtomicU32::new(0) }
    }
}

impl conformance::Subject for Bench {
    fn worker(&self) -> Box<dyn Worker> {
        let first = self.windows.fetch_add(1, Ordering::Relaxed) * WINDOW;
        Box::new(Window { worker: Arc::clone(&self.worker), first, used: BTreeSet::new() })
    }

    fn action(&self) -> Bytes {
        Bytes::from_static(b"{}")
    }

    fn refused_action(&self) -> Bytes {
        Bytes::from_static(br#"{"sleep_s":"long"}"#)
    }

    fn slow_action(&self) -> Option<Bytes> {
        Some(Bytes::from_static(br#"{"sleep_s":0.06}"#))
    }

    /// All of them go to server 0.
    fn sessions(&self) -> u32 {
        96
    }
}

/// The worker as one check sees it.
struct Window {
    worker: Arc<Mutex<PythonWorker>>,
    first: u32,
    used: BTreeSet<Slot>,
}

impl Window {
    fn worker(&self) -> MutexGuard<'_, PythonWorker> {
        // A check that failed has left nothing half done in here.
        self.worker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Worker for Window {
    fn submit(&mut self, batch: &mut Vec<Command>) {
        for command in batch.iter_mut() {
            command.slot.0 += self.first;
            self.used.insert(command.slot);
        }
        self.worker().submit(batch);
    }

    fn completions(&mut self, events: &mut Vec<Event>, wait: Duration) {
        let mut all = Vec::new();
        self.worker().completions(&mut all, wait);
        events.extend(all.into_iter().filter(|event| self.used.contains(&event.slot)).map(
            |mut event| {
                event.slot.0 -= self.first;
                event
            },
        ));
    }

    fn waker(&self) -> Waker {
        self.worker().waker()
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        let close = |&slot| Command { slot, generation: Generation(0), request: Request::Close };
        self.worker().submit(&mut self.used.iter().map(close).collect());
    }
}

#[test]
fn plain_environments_conform() {
    conformance::run_all(&Bench::start(options("bench_env:BenchEnv")));
}

#[test]
fn environments_with_coroutines_conform() {
    conformance::run_all(&Bench::start(options("bench_env:AsyncBenchEnv")));
}
