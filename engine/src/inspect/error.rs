//! Why recordings cannot be looked into.

use std::{io, path::PathBuf, sync::Arc};

use envmill_formats::FormatError;
use envmill_inspect::FilterError;

use crate::{config::ConfigError, run::RunError, sink::RecordsError};

/// Recordings cannot be looked into.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// A file or directory cannot be read.
    #[error("cannot read {}: {source}", .path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A directory has no records, as far as it was looked through.
    #[error(
        "{} holds no recording: give a file of records, or the output directory of `envmill run` or \
         `openenv collect`",
        .0.display()
    )]
    NoRecording(PathBuf),
    /// A file has not one record, whole or torn.
    #[error(
        "{error}. It must be JSON lines, an Arrow stream or Parquet of `envmill run`, or the results.jsonl \
         of `openenv collect`"
    )]
    NoRecords {
        /// Why the first one cannot be read.
        error: String,
    },
    /// A file cannot be opened as one of records.
    #[error(transparent)]
    Records(#[from] RecordsError),
    /// What is to say what tokens mean cannot be used.
    #[error("--tokenizer: {0}")]
    Tokenizer(#[source] envmill_chat::LoadError),
    /// A filter cannot be used.
    #[error(transparent)]
    Filter(#[from] FilterError),
    /// A file cannot be written.
    #[error("cannot write {}: {source}", .path.display())]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Arc<io::Error>,
    },
    /// A file is there already.
    #[error("{} is there already: choose another --out, or replace it with --force", .0.display())]
    Occupied(PathBuf),
    /// A file would replace what it is made from.
    #[error("{} is what is read: choose another --out", .0.display())]
    SameFile(PathBuf),
    /// No record can be converted.
    #[error("none of {records} records can become a TrainingTrace: {why}")]
    NothingConverted {
        /// How many there are.
        records: u64,
        /// Why the first cannot.
        why: String,
    },
    /// The form's own library refuses.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// There is nothing to play again.
    #[error(
        "no recorded episode can be played again: {skipped} failed, were cancelled or have no first \
         observation"
    )]
    NothingToPlay {
        /// How many were left out.
        skipped: u64,
    },
    /// The replay's settings cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The replay cannot begin.
    #[error(transparent)]
    Run(#[from] RunError),
    /// There is no room for a replay's own files.
    #[error("cannot make a temporary directory: {0}; set TMPDIR to one that can be written to")]
    Temporary(io::Error),
}

impl InspectError {
    /// An error of reading `path`.
    pub(crate) fn unreadable(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Unreadable { path, source }
    }

    /// An error of writing `path`.
    pub(crate) fn unwritable(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Unwritable { path, source: Arc::new(source) }
    }
}
