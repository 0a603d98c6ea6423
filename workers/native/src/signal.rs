//! The end of a wait.

use std::{
    sync::{Condvar, Mutex, PoisonError},
    time::Duration,
};

use envmill_workers::Wake;

/// A flag that a thread can wait for. Set before the wait, it ends the next one.
#[derive(Debug, Default)]
pub(crate) struct Signal {
    set: Mutex<bool>,
    changed: Condvar,
}

impl Signal {
    /// Waits until the flag is set, at most `wait`; clears it.
    pub(crate) fn wait(&self, wait: Duration) {
        let set = self.set.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut set, _) = self
            .changed
            .wait_timeout_while(set, wait, |set| !*set)
            .unwrap_or_else(PoisonError::into_inner);
        *set = false;
    }
}

impl Wake for Signal {
    fn wake(&self) {
        *self.set.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_one();
    }
}
