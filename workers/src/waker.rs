//! Ending another thread's wait.

use std::{fmt, sync::Arc};

/// What a [`Waker`] does; implemented by workers (an event descriptor, a condition variable).
pub trait Wake: Send + Sync {
    /// Ends the current wait, or the next if there is none. Never blocks.
    fn wake(&self);
}

/// A cloneable handle, for any thread, that ends a worker's wait.
#[derive(Clone)]
pub struct Waker(Arc<dyn Wake>);

impl Waker {
    /// A handle on `wake`.
    #[must_use]
    pub fn new(wake: Arc<dyn Wake>) -> Self {
        Self(wake)
    }

    /// Ends the current wait, or the next if there is none. Never blocks.
    pub fn wake(&self) {
        self.0.wake();
    }
}

impl fmt::Debug for Waker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Waker")
    }
}
