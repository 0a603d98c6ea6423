//! Records, read back one after another.

use std::{
    path::PathBuf,
    process,
    sync::{Mutex, PoisonError},
};

use envmill::sink::Records;
use pyo3::{exceptions::PyRuntimeError, prelude::*};

use crate::{errors::engine_error, record::Record};

/// Reads a file of records in any format from its beginning; memory holds one line or batch at a time.
#[pyclass(frozen, module = "envmill._native")]
pub(crate) struct RecordReader {
    records: Mutex<Records>,
    /// Whose it is: a forked process shares the place in the file.
    process: u32,
}

#[pymethods]
impl RecordReader {
    #[new]
    fn new(py: Python<'_>, path: PathBuf) -> PyResult<Self> {
        let records = py.detach(|| Records::open(&path)).map_err(engine_error)?;
        Ok(Self { records: Mutex::new(records), process: process::id() })
    }

    fn __iter__(this: PyRef<'_, Self>) -> PyRef<'_, Self> {
        this
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Record>> {
        if self.process != process::id() {
            return Err(PyRuntimeError::new_err(format!(
                "this iterator over records belongs to process {}, which forked this one, and would \
                 lose its place: begin another one here, with iter(run.records)",
                self.process
            )));
        }
        // The lock is taken and released while detached, so that nobody waits for it attached.
        let next = py.detach(|| self.records.lock().unwrap_or_else(PoisonError::into_inner).next());
        next.transpose().map(|record| record.map(Record::new)).map_err(engine_error)
    }
}

/// How many records a file has; it is read to its end.
#[pyfunction]
pub(crate) fn count_records(py: Python<'_>, path: PathBuf) -> PyResult<u64> {
    py.detach(|| {
        let mut records = Records::open(&path)?;
        records.try_fold(0, |count, record| record.map(|_| count + 1))
    })
    .map_err(engine_error)
}
