//! The thread that all clients of a process share.

use std::{
    future::pending,
    mem, process,
    sync::{Mutex, PoisonError},
    thread,
};

use pyo3::{PyErr, PyResult, exceptions::PyRuntimeError};
use tokio::runtime::{Builder, Handle};

use crate::errors::engine_error;

/// The runtime of this process: started when it is first asked for, and ended by the process's end. No
/// Python runs on its thread.
pub(crate) fn runtime() -> PyResult<Handle> {
    // Taken by who is attached to the interpreter only: a fork, which is, finds it free.
    static RUNTIME: Mutex<Option<(u32, Handle)>> = Mutex::new(None);
    let mut kept = RUNTIME.lock().unwrap_or_else(PoisonError::into_inner);
    match &*kept {
        Some((process, handle)) if *process == process::id() => Ok(handle.clone()),
        // That of a process that forked this one has no thread here.
        _ => {
            let runtime =
                Builder::new_current_thread().enable_all().build().map_err(engine_error)?;
            let handle = runtime.handle().clone();
            let serve = move || runtime.block_on(pending::<()>());
            let thread = thread::Builder::new().name("envmill-client".into());
            thread.spawn(serve).map_err(engine_error)?;
            *kept = Some((process::id(), handle.clone()));
            Ok(handle)
        }
    }
}

/// Something that the thread of one process knows, too. A process that was forked can neither use it nor
/// drop it: that might wait for a lock that nobody gives back, or wake the thread of the other process.
pub(crate) struct Owned<T> {
    /// There until it is dropped.
    value: Option<T>,
    process: u32,
    /// What it is called, and what to do instead.
    words: &'static Words,
}

/// What a forked process is told.
pub(crate) struct Words {
    /// `client`.
    pub(crate) name: &'static str,
    /// `make another one here`.
    pub(crate) instead: &'static str,
}

impl<T> Owned<T> {
    pub(crate) fn new(value: T, words: &'static Words) -> Self {
        Self { value: Some(value), process: process::id(), words }
    }

    pub(crate) fn get(&self) -> PyResult<&T> {
        match &self.value {
            Some(value) if self.process == process::id() => Ok(value),
            _ => Err(self.foreign()),
        }
    }

    fn foreign(&self) -> PyErr {
        let Words { name, instead } = self.words;
        let process = self.process;
        PyRuntimeError::new_err(format!(
            "this {name} belongs to process {process}, which forked this one: {instead}"
        ))
    }
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        if self.process != process::id() {
            mem::forget(self.value.take());
        }
    }
}
