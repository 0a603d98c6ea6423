//! Where the output of what is started goes while it is measured.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

/// A directory that is gone with this.
#[derive(Debug)]
pub(super) struct Logs(PathBuf);

impl Logs {
    pub(super) fn new() -> io::Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("envmill-bench-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        // Not one that somebody else has put there.
        fs::create_dir(&path)?;
        Ok(Self(path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Logs {
    fn drop(&mut self) {
        // What cannot be taken away stays, and does no harm.
        let _ = fs::remove_dir_all(&self.0);
    }
}
