//! The engine's errors as Python's.

use std::fmt::Display;

use envmill::config::ConfigError;
use envmill_client::Error;
use pyo3::{
    PyErr,
    exceptions::{PyTypeError, PyValueError},
};

// Declared in Python, where it has attributes and a documentation.
pyo3::import_exception!(envmill._errors, EnvmillError);
pyo3::import_exception!(envmill._errors, Refused);
pyo3::import_exception!(envmill._errors, Unreachable);

/// A setting that cannot be used.
pub(crate) fn value_error(error: &ConfigError) -> PyErr {
    PyValueError::new_err(error.to_string())
}

/// What is wrong with keyword arguments.
pub(crate) fn argument_error(error: &ConfigError) -> PyErr {
    let ConfigError::UnknownKey { key, nearest, .. } = error else { return value_error(error) };
    let argument = |name: &str| name.replace('-', "_");
    let nearest = nearest.as_deref().map_or_else(
        || "; `envmill run --help` lists the settings".into(),
        |nearest| format!("; did you mean '{}'?", argument(nearest)),
    );
    let key = argument(key);
    PyTypeError::new_err(format!("run() got an unexpected keyword argument '{key}'{nearest}"))
}

/// What the service did not do.
pub(crate) fn client_error(error: Error) -> PyErr {
    match error {
        Error::Options(problem) => PyValueError::new_err(problem),
        Error::Unreachable(_) => Unreachable::new_err(error.to_string()),
        Error::Refused { code, message } => Refused::new_err((message, words(&code))),
        Error::Nonsense(_) | Error::Over(_) => engine_error(error),
    }
}

/// A name of several words, as Python writes them.
fn words(name: &impl std::fmt::Debug) -> String {
    let name = format!("{name:?}");
    let mut words = String::with_capacity(name.len() + 4);
    for (place, letter) in name.char_indices() {
        if letter.is_uppercase() && place > 0 {
            words.push('_');
        }
        words.extend(letter.to_lowercase());
    }
    words
}

/// What the engine could not do.
pub(crate) fn engine_error(error: impl Display) -> PyErr {
    EnvmillError::new_err(error.to_string())
}
