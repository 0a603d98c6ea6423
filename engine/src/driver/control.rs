//! How other threads reach a driver.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU8, Ordering},
    },
};

use envmill_core::{Input, JobOptions, OptionsError};
use envmill_protocol::JobId;
use envmill_workers::Waker;

const RUN: u8 = 0;
const DRAIN: u8 = 1;
const CUT: u8 = 2;

/// A cloneable handle on a running [`Driver`](crate::driver::Driver), for any thread: it asks for an
/// end, submits jobs, or passes on what happened elsewhere.
#[derive(Clone, Debug, Default)]
pub struct Control(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    stage: AtomicU8,
    is_stopped: AtomicBool,
    /// In the order in which they were handed over; as many as others hand over between two rounds of
    /// the driver.
    errands: Mutex<Vec<Errand>>,
    waker: Mutex<Option<Waker>>,
}

/// Something for the driver to do.
pub(crate) enum Errand {
    /// Pass this on to the core.
    Input(Input),
    /// Pass on what this says when its turn has come, if anything.
    Later(Box<dyn FnOnce() -> Option<Input> + Send>),
    /// Submit a job, and say what came of it.
    Submit(Box<JobOptions>, Box<dyn FnOnce(Result<JobId, OptionsError>) + Send>),
}

impl fmt::Debug for Errand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Input(input) => f.debug_tuple("Input").field(input).finish(),
            Self::Later(_) => f.write_str("Later"),
            Self::Submit(options, _) => f.debug_tuple("Submit").field(options).finish(),
        }
    }
}

impl Control {
    /// A handle that no driver listens to yet; what it is told is kept until one does.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks for an end: the first time to start no more episodes, the second time to finish nothing
    /// more. What Ctrl-C does.
    pub fn interrupt(&self) {
        let up = |stage| (stage < CUT).then_some(stage + 1);
        let _ = self.0.stage.fetch_update(Ordering::AcqRel, Ordering::Acquire, up);
        self.wake();
    }

    /// How often an end was asked for: 0, 1 (drain) or 2 (cut).
    #[must_use]
    pub fn interrupts(&self) -> u8 {
        self.0.stage.load(Ordering::Acquire)
    }

    /// Ends the driver at once, in whatever state its jobs are: what is unfinished is neither played on
    /// nor recorded, and sessions are closed with the worker.
    pub fn stop(&self) {
        self.0.is_stopped.store(true, Ordering::Release);
        self.wake();
    }

    /// Whether [`stop`](Self::stop) was called.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.0.is_stopped.load(Ordering::Acquire)
    }

    /// Passes an input on to the core. What is handed over by this and the next two is taken in the
    /// order of the calls.
    pub fn send(&self, input: Input) {
        self.hand_over(Errand::Input(input));
    }

    /// Passes on what `input` says on the driver's thread once its turn has come, if it says anything:
    /// for inputs about a job whose id is not known yet.
    pub fn send_later(&self, input: impl FnOnce() -> Option<Input> + Send + 'static) {
        self.hand_over(Errand::Later(Box::new(input)));
    }

    /// Has a job submitted. `then` is told on the driver's thread what came of it, before any episode
    /// is started; it must not block. A driver that does not stay may be over before. A flight recording
    /// has no form for this and is cut off there.
    pub fn submit(
        &self,
        options: JobOptions,
        then: impl FnOnce(Result<JobId, OptionsError>) + Send + 'static,
    ) {
        self.hand_over(Errand::Submit(Box::new(options), Box::new(then)));
    }

    fn hand_over(&self, errand: Errand) {
        lock(&self.0.errands).push(errand);
        self.wake();
    }

    pub(crate) fn attach(&self, waker: Waker) {
        *lock(&self.0.waker) = Some(waker);
    }

    pub(super) fn is_draining(&self) -> bool {
        self.interrupts() >= DRAIN
    }

    pub(super) fn is_cut(&self) -> bool {
        self.interrupts() >= CUT
    }

    pub(crate) fn take(&self, errands: &mut Vec<Errand>) {
        errands.append(&mut lock(&self.0.errands));
    }

    fn wake(&self) {
        if let Some(waker) = &*lock(&self.0.waker) {
            waker.wake();
        }
    }
}

/// No holder of these locks can leave anything half done, so a panic elsewhere does not matter.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

const _: () = assert!(RUN < DRAIN && DRAIN < CUT);
