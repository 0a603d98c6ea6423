//! Why records cannot be kept.

use std::{io, path::PathBuf, sync::Arc};

/// A sink's target does not take what is written. Nothing after the last whole record is kept.
#[derive(Clone, Debug, thiserror::Error)]
#[error("cannot write {}: {source}; {}", .path.display(), remedy(.source))]
pub struct SinkError {
    /// The file.
    pub path: PathBuf,
    /// What the system said.
    pub source: Arc<io::Error>,
}

impl SinkError {
    pub(crate) fn new(path: PathBuf, source: io::Error) -> Self {
        Self { path, source: Arc::new(source) }
    }
}

/// What the reader can do about a failed write.
pub(super) fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull => "free space there, or choose another disk with --out",
        io::ErrorKind::QuotaExceeded => "free some of the quota, or choose another disk with --out",
        io::ErrorKind::FileTooLarge => {
            "raise the limit on file sizes (`ulimit -f`), or choose another disk with --out"
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "make it writable, or choose another directory with --out"
        }
        _ => "choose another directory with --out",
    }
}
