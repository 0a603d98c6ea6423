//! What a service is told at its start.

use std::{fs, io, path::PathBuf, time::Duration};

use envmill_store::OpenError;

/// Settings of a service.
#[derive(Clone, Debug)]
pub struct ServiceOptions {
    /// The journal's file; made where there is none.
    pub store: PathBuf,
    /// The largest message that is taken from a trainer, in bytes. Default 64 MiB.
    pub message_bytes_max: usize,
    /// Records whose encoding is longer go in parts of at most so many bytes. Default 1 MiB: clients of
    /// gRPC take 4 MiB where they are not told otherwise.
    pub part_bytes: usize,
    /// Bytes of records in memory, beyond which they are read back from the journal. Default 256 MiB.
    pub memory_bytes_max: u64,
    /// Bytes of memory that is shared with trainers on this host, all rings together; 0 for none. Default
    /// 1 GiB. It is taken when trainers ask for it and as it is used.
    pub shared_bytes_max: u64,
    /// What finds no room in shared memory waits so long for some to be given back, give or take a second,
    /// and then goes on the stream. Default one second.
    pub ring_patience: Duration,
    /// A job of which nothing is owed is forgotten after so long. Default one hour.
    pub forget_after: Duration,
    /// A job whose trainer has not been there for so long is given up. Default one day.
    pub abandon_after: Duration,
}

impl ServiceOptions {
    /// The defaults, with a journal in this file.
    #[must_use]
    pub fn new(store: impl Into<PathBuf>) -> Self {
        Self {
            store: store.into(),
            message_bytes_max: 64 << 20,
            part_bytes: 1 << 20,
            memory_bytes_max: 256 << 20,
            shared_bytes_max: 1 << 30,
            ring_patience: Duration::from_secs(1),
            forget_after: Duration::from_hours(1),
            abandon_after: Duration::from_hours(24),
        }
    }

    pub(crate) fn delivery(&self) -> envmill_delivery::Options {
        envmill_delivery::Options {
            memory_bytes_max: self.memory_bytes_max,
            ..envmill_delivery::Options::default()
        }
    }

    /// Where trainers on this host come for memory.
    pub(crate) fn socket(&self) -> PathBuf {
        let mut path = self.store.clone().into_os_string();
        path.push(".sock");
        path.into()
    }

    /// What is said where the journal cannot be used.
    pub(crate) fn unusable(&self) -> impl FnOnce(OpenError) -> StartError {
        let path = self.store.clone();
        |source| StartError::Store { path, source }
    }

    pub(crate) fn journal_bytes(&self) -> u64 {
        fs::metadata(&self.store).map_or(0, |it| it.len())
    }
}

/// Why a service does not start. Nothing is left running.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The journal cannot be used.
    #[error("{}: {source}", .path.display())]
    Store {
        /// Its file.
        path: PathBuf,
        /// Why.
        source: OpenError,
    },
    /// The journal holds what this version cannot read.
    #[error("the store is damaged: {0} cannot be read")]
    Damaged(String),
    /// The system refused something.
    #[error("cannot start: {0}")]
    Io(#[from] io::Error),
    /// The certificate or its key cannot be used.
    #[error("TLS: {0}")]
    Tls(String),
}
