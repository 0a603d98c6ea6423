//! What is wrong with flags or a configuration file.

use std::{io, path::PathBuf};

use crate::policy::PolicySpecError;
use envmill_native::EnvironmentError;
use envmill_protocol::openenv::FieldPathError;

/// A setting cannot be used. Every message names it and says what to write instead.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {}: {source}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is no TOML.
    #[error("{}: {problem}", .path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where and what.
        problem: String,
    },
    /// The file has a key that there is not.
    #[error("{}: there is no setting `{key}`{}", .path.display(), suggestion(.nearest.as_deref(), .listed))]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// The setting whose name is most like it.
        nearest: Option<String>,
        /// What lists the settings.
        listed: &'static str,
    },
    /// A key has a value of another type.
    #[error("{}: `{key}`: {problem}", .path.display())]
    Type {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// Where and what.
        problem: String,
    },
    /// A value in a file cannot be used.
    #[error("{}: `{key}`: {problem}", .path.display())]
    InFile {
        /// The file.
        path: PathBuf,
        /// The key, with the tables that it is in.
        key: String,
        /// What is wrong and what to write.
        problem: String,
    },
    /// A value cannot be used.
    #[error("--{setting}: {problem}")]
    Value {
        /// The setting.
        setting: &'static str,
        /// What is wrong and what to write.
        problem: String,
    },
    /// The policy.
    #[error("--policy: {0}")]
    Policy(#[from] PolicySpecError),
    /// The mapping of truncation.
    #[error("--truncated-from: {0}")]
    TruncatedFrom(#[from] FieldPathError),
    /// A native environment.
    #[error("--env native: {0}")]
    Native(#[from] EnvironmentError),
}

impl ConfigError {
    pub(super) fn value(setting: &'static str, problem: impl Into<String>) -> Self {
        Self::Value { setting, problem: problem.into() }
    }
}

fn suggestion(nearest: Option<&str>, listed: &str) -> String {
    nearest.map_or_else(
        || format!("; `{listed}` lists them"),
        |nearest| format!("; did you mean `{nearest}`?"),
    )
}
