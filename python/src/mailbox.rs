//! What the client's thread has for Python's threads.

use std::{
    collections::VecDeque,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use envmill_client::Error;
use pyo3::prelude::*;

use crate::{bell::Ring, errors::client_error};

/// How often Python's signals are looked for while a thread waits.
const SIGNALS_EVERY: Duration = Duration::from_millis(50);

/// A queue whose bound is the sender's, and which ends with an error.
pub(crate) struct Mailbox<T> {
    state: Mutex<State<T>>,
    news: Condvar,
}

struct State<T> {
    letters: VecDeque<T>,
    /// Why nothing comes after them.
    end: Option<Error>,
    /// Who wants to be told of the next one.
    waiting: Vec<Ring>,
}

impl<T> State<T> {
    fn has_any(&self) -> bool {
        !self.letters.is_empty() || self.end.is_some()
    }
}

impl<T> Default for Mailbox<T> {
    fn default() -> Self {
        let state = State { letters: VecDeque::new(), end: None, waiting: Vec::new() };
        Self { state: Mutex::new(state), news: Condvar::new() }
    }
}

impl<T: Send> Mailbox<T> {
    pub(crate) fn put(&self, letter: T) {
        self.put_over(letter, |_| false);
    }

    /// Puts it in the place of the last letter if that `is_outdated`.
    pub(crate) fn put_over(&self, letter: T, is_outdated: impl FnOnce(&T) -> bool) {
        let mut state = self.lock();
        if state.letters.back().is_some_and(is_outdated) {
            state.letters.pop_back();
        }
        state.letters.push_back(letter);
        self.tell(state);
    }

    /// Nothing comes any more; the first reason counts.
    pub(crate) fn close(&self, why: Error) {
        let mut state = self.lock();
        state.end.get_or_insert(why);
        self.tell(state);
    }

    /// The first letter; `None` if there is none yet, and an error if there will be none.
    pub(crate) fn take(&self) -> Result<Option<T>, Error> {
        Self::first(&mut self.lock())
    }

    /// The first letter. Ctrl-C ends the wait.
    pub(crate) fn wait(&self, py: Python<'_>) -> PyResult<T> {
        let mut taken = self.take();
        loop {
            match taken {
                Ok(Some(letter)) => return Ok(letter),
                Ok(None) => py.check_signals()?,
                Err(error) => return Err(client_error(error)),
            }
            // The lock is taken and released while detached, so that nobody waits for it attached.
            taken = py.detach(|| {
                let nothing = |state: &mut State<T>| !state.has_any();
                let waited = self.news.wait_timeout_while(self.lock(), SIGNALS_EVERY, nothing);
                Self::first(&mut waited.unwrap_or_else(PoisonError::into_inner).0)
            });
        }
    }

    /// Rings when there is something to take, or nothing any more: at once if that is so now.
    pub(crate) fn ring(&self, ring: Ring) {
        let mut state = self.lock();
        if !state.has_any() {
            // Whoever has given up waiting may come again.
            if !state.waiting.contains(&ring) {
                state.waiting.push(ring);
            }
        } else {
            drop(state);
            ring.ring();
        }
    }

    /// Whether there is something to take, or nothing any more.
    pub(crate) fn has_any(&self) -> bool {
        self.lock().has_any()
    }

    fn first(state: &mut State<T>) -> Result<Option<T>, Error> {
        match (state.letters.pop_front(), &state.end) {
            (None, Some(error)) => Err(error.clone()),
            (letter, _) => Ok(letter),
        }
    }

    fn tell(&self, mut state: MutexGuard<'_, State<T>>) {
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        self.news.notify_all();
        waiting.into_iter().for_each(Ring::ring);
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // It is whole at every moment.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
