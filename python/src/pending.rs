//! Something that was asked of the service.

use std::{
    future::Future,
    sync::{Arc, Mutex, PoisonError},
};

use envmill_client::Error;
use pyo3::{exceptions::PyRuntimeError, prelude::*};
use tokio::task::AbortHandle;

use crate::{
    bell::Bell,
    errors::client_error,
    mailbox::Mailbox,
    runtime::{Owned, Words, runtime},
};

/// Makes a Python object of an answer.
type Make = Box<dyn FnOnce(Python<'_>) -> PyResult<Py<PyAny>> + Send>;

/// An answer that is to come. Dropping it gives up what has not been said yet.
#[pyclass(frozen, module = "envmill._native")]
pub(crate) struct Pending {
    task: Owned<Task>,
}

struct Task {
    answer: Arc<Mailbox<Result<Make, Error>>>,
    abort: Mutex<AbortHandle>,
}

impl Drop for Task {
    fn drop(&mut self) {
        self.abort.get_mut().unwrap_or_else(PoisonError::into_inner).abort();
    }
}

const WORDS: Words =
    Words { name: "request", instead: "ask again here, with a client of this process" };

impl Pending {
    /// Has the client's thread do `work`, and `make` an object of what comes of it.
    pub(crate) fn new<T: Send + 'static>(
        work: impl Future<Output = Result<T, Error>> + Send + 'static,
        make: impl FnOnce(Python<'_>, T) -> PyResult<Py<PyAny>> + Send + 'static,
    ) -> PyResult<Self> {
        let answer = Arc::new(Mailbox::<Result<Make, Error>>::default());
        let here = Arc::clone(&answer);
        let task = runtime()?.spawn(async move {
            let made = work.await.map(|value| -> Make { Box::new(move |py| make(py, value)) });
            here.put(made);
        });
        let abort = Mutex::new(task.abort_handle());
        Ok(Self { task: Owned::new(Task { answer, abort }, &WORDS) })
    }

    /// The same for what has nothing to tell.
    pub(crate) fn done(
        work: impl Future<Output = Result<(), Error>> + Send + 'static,
    ) -> PyResult<Self> {
        Self::new(work, |py, ()| Ok(py.None()))
    }
}

#[pymethods]
impl Pending {
    /// Waits for the answer, which is there once.
    fn wait(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let make = self.task.get()?.answer.wait(py)?;
        make.map_err(client_error)?(py)
    }

    /// Rings the bell when the answer is there.
    fn ring(&self, bell: &Bell, token: u64) -> PyResult<()> {
        self.task.get()?.answer.ring(bell.ring(token));
        Ok(())
    }

    /// Whether the answer is there.
    fn is_there(&self) -> PyResult<bool> {
        Ok(self.task.get()?.answer.has_any())
    }

    /// The answer, which must be there.
    fn answer(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let answer = self.task.get()?.answer.take().map_err(client_error)?;
        let none = || PyRuntimeError::new_err("there is no answer yet, or it was taken");
        answer.ok_or_else(none)?.map_err(client_error)?(py)
    }
}
