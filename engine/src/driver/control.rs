//! How other threads reach a driver.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU8, Ordering},
};

use envmill_core::Input;
use envmill_workers::Waker;

const RUN: u8 = 0;
const DRAIN: u8 = 1;
const CUT: u8 = 2;

/// A cloneable handle on a running [`Driver`](crate::driver::Driver), for any thread: it asks for an
/// end, or passes on what happened elsewhere.
#[derive(Clone, Debug, Default)]
pub struct Control(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    stage: AtomicU8,
    inputs: Mutex<Vec<Input>>,
    waker: Mutex<Option<Waker>>,
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

    /// Passes an input on to the core.
    pub fn send(&self, input: Input) {
        lock(&self.0.inputs).push(input);
        self.wake();
    }

    pub(super) fn attach(&self, waker: Waker) {
        *lock(&self.0.waker) = Some(waker);
    }

    pub(super) fn is_draining(&self) -> bool {
        self.interrupts() >= DRAIN
    }

    pub(super) fn is_cut(&self) -> bool {
        self.interrupts() >= CUT
    }

    pub(super) fn take(&self, inputs: &mut Vec<Input>) {
        inputs.append(&mut lock(&self.0.inputs));
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
