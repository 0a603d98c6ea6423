//! What can go wrong, and what to do.

use std::{fmt, io};

use thiserror::Error;

/// Why a store was not opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// Another process has it.
    #[error("another process has the store open; end it, or give this one another directory")]
    InUse,
    /// It was written by a newer version.
    #[error("the store has schema {found} and this version knows {known}; use a newer version")]
    Newer {
        /// The store's schema.
        found: u64,
        /// What this version knows.
        known: u64,
    },
    /// What it holds makes no sense.
    #[error("the store is damaged: {0}")]
    Damaged(String),
    /// It cannot be read or written.
    #[error("the store cannot be opened: {0}")]
    Io(#[source] io::Error),
}

/// Why a batch was not applied. Nothing of it is certain; apply the same batch again.
#[derive(Debug, Error)]
pub enum ApplyError {
    /// There is no room. Applying works again once there is.
    #[error("the disk of the store is full")]
    Full(#[source] io::Error),
    /// It cannot be written.
    #[error("the store cannot be written: {0}")]
    Io(#[source] io::Error),
}

/// Why a payload was not read.
#[derive(Debug, Error)]
#[error("the store cannot be read: {0}")]
pub struct ReadError(#[source] pub(crate) io::Error);

impl OpenError {
    pub(crate) fn damaged(why: impl fmt::Display) -> Self {
        Self::Damaged(format!("{why}"))
    }
}

impl From<redb::Error> for OpenError {
    fn from(error: redb::Error) -> Self {
        match error {
            redb::Error::DatabaseAlreadyOpen => Self::InUse,
            redb::Error::Io(error) => Self::Io(error),
            other => Self::damaged(other),
        }
    }
}

impl From<redb::Error> for ApplyError {
    fn from(error: redb::Error) -> Self {
        let error = into_io(error);
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full(error),
            _ => Self::Io(error),
        }
    }
}

impl From<redb::Error> for ReadError {
    fn from(error: redb::Error) -> Self {
        Self(into_io(error))
    }
}

fn into_io(error: redb::Error) -> io::Error {
    match error {
        redb::Error::Io(error) => error,
        other => io::Error::other(other.to_string()),
    }
}
