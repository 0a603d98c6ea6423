//! How an event loop of Python's learns that something is there.

use std::{
    os::fd::{AsRawFd as _, OwnedFd},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use pyo3::prelude::*;
use rustix::event::{EventfdFlags, eventfd};

use crate::errors::engine_error;

/// A descriptor that is readable when there is something to take, which an event loop watches: so it need
/// not be called from a thread that knows nothing of Python.
#[pyclass(frozen, module = "envmill._native")]
pub(crate) struct Bell(Arc<Rope>);

#[derive(Debug)]
struct Rope {
    descriptor: OwnedFd,
    /// Who is meant, since the last time that somebody looked.
    rung: Mutex<Vec<u64>>,
}

/// Rings a bell for one who waits.
#[derive(Clone, Debug)]
pub(crate) struct Ring {
    rope: Arc<Rope>,
    token: u64,
}

impl PartialEq for Ring {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.rope, &other.rope) && self.token == other.token
    }
}

impl Rope {
    fn rung(&self) -> MutexGuard<'_, Vec<u64>> {
        self.rung.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Bell {
    /// What rings it for the one who knows this token.
    pub(crate) fn ring(&self, token: u64) -> Ring {
        Ring { rope: Arc::clone(&self.0), token }
    }
}

impl Ring {
    pub(crate) fn ring(self) {
        let mut rung = self.rope.rung();
        rung.push(self.token);
        if rung.len() == 1 {
            // It fails where it is readable already.
            let _ = rustix::io::write(&self.rope.descriptor, &1_u64.to_ne_bytes());
        }
    }
}

#[pymethods]
impl Bell {
    #[new]
    fn new() -> PyResult<Self> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let descriptor = eventfd(0, flags).map_err(engine_error)?;
        Ok(Self(Arc::new(Rope { descriptor, rung: Mutex::default() })))
    }

    fn fileno(&self) -> i32 {
        self.0.descriptor.as_raw_fd()
    }

    /// Whom it has rung for; it is silent again.
    fn take(&self) -> Vec<u64> {
        let mut rung = self.0.rung();
        let _ = rustix::io::read(&self.0.descriptor, &mut [0; 8]);
        std::mem::take(&mut rung)
    }
}
