//! The extension module `envmill._native`: the engine as the Python package `envmill` needs it.
//!
//! Start at `Job` in `job.rs`, which plays; `RecordReader` in `reader.rs` reads what was played, and `main`
//! is the `envmill` command. What users call is in `envmill/*.py`, typed
//! in `envmill/_native.pyi`.
//!
//! Deliberately absent: work at import (no thread, no signal handler, no log), Python code that runs on
//! the engine's thread, and an allocator: the interpreter's process keeps the one that it has.

#![allow(clippy::needless_pass_by_value, reason = "arguments come from Python by value")]

mod array;
mod bell;
mod client;
mod errors;
mod history;
mod job;
mod json;
mod lent;
mod mailbox;
mod messages;
mod pending;
mod reader;
mod record;
mod rollouts;
mod runtime;
mod tokens;
mod turns;

#[pyo3::pymodule]
mod _native {
    use std::{ffi::OsString, io::Write as _, path::PathBuf};

    use envmill::command::Host;
    use pyo3::{Bound, PyResult, Python, pyfunction, types::PyModule, types::PyModuleMethods as _};

    #[pymodule_export]
    use crate::{
        array::Array,
        bell::Bell,
        client::Connection,
        history::{Attempt, Delivery, Timing},
        job::{Job, Played},
        pending::Pending,
        reader::{RecordReader, count_records},
        record::{End, Observed, Record, Step},
        rollouts::Stream,
        tokens::{Blob, Generation, TurnSpan, Version},
        turns::{EpisodeStart, Seat, Turn},
    };

    /// Runs the `envmill` command and returns its exit status. `program` is the command line that
    /// starts it anew, `python` the interpreter of this process.
    #[pyfunction]
    fn main(py: Python<'_>, arguments: Vec<OsString>, program: Vec<String>, python: PathBuf) -> u8 {
        py.detach(|| {
            let arguments = std::iter::once(OsString::from("envmill")).chain(arguments);
            let host = Host { program, python: Some(python) };
            let status = envmill::command::main_with(arguments, &host);
            // In an extension module nothing does this at the end.
            let _ = std::io::stdout().flush();
            status
        })
    }

    /// The names of all settings, as the command writes them.
    #[pyfunction]
    fn setting_names() -> Vec<String> {
        envmill::config::Settings::names()
    }

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
