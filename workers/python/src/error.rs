//! Why a worker cannot start.

use std::{io, time::Duration};

/// Why a worker cannot start. Each message says what to do, where that is known.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The interpreter cannot be run.
    #[error("{python} cannot be run: {source}; name another interpreter with --python")]
    Interpreter {
        /// What was tried.
        python: String,
        /// Why.
        source: io::Error,
    },
    /// The environment cannot be loaded.
    #[error("{target} cannot be loaded: {problem}")]
    Target {
        /// What was to be loaded.
        target: String,
        /// What Python says.
        problem: String,
    },
    /// The processes that were started ended, or said nothing for too long.
    #[error("the Python processes did not start within {0:?}: see their output")]
    Timeout(Duration),
    /// The nursery ended.
    #[error("the Python process that starts the others ended at once: see its output")]
    Ended,
    /// A number or a text among the options.
    #[error("{0}")]
    Options(String),
    /// The operating system refused something.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        source: io::Error,
    },
}

/// For `map_err`: names what was tried.
pub(crate) fn system<E: Into<io::Error>>(what: &'static str) -> impl FnOnce(E) -> Error {
    move |source| Error::System { what, source: source.into() }
}
