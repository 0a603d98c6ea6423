//! The directory of one run.

use std::{
    fs::{self, File, OpenOptions},
    io,
    path::{Path, PathBuf},
};

use super::error::remedy;

const TRAJECTORIES: &str = "trajectories.jsonl";
const JOB: &str = "job.json";
const GROUPS: &str = "groups.jsonl";
const SERVERS: &str = "servers";

/// A directory that holds what one run leaves:
///
/// * `trajectories.jsonl`: one record a line;
/// * `groups.jsonl`: one record of a group a line, where groups were asked for;
/// * `job.json`: the configuration of the run as it was resolved, without secrets;
/// * `servers/N.log`: the output of the servers that the run started.
#[derive(Debug)]
pub struct OutputDirectory {
    path: PathBuf,
}

/// A directory cannot hold a run.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// It cannot be made or written to.
    #[error("cannot write to the output directory {}: {source}; {}", .path.display(), remedy(.source))]
    Unwritable {
        /// The directory, or the file in it.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It holds another run.
    #[error(
        "{} already holds trajectories: choose another directory with --out, or replace them with \
         --overwrite",
        .0.display()
    )]
    Occupied(PathBuf),
}

impl OutputDirectory {
    /// Makes the directory, with all above it, and claims it by making an empty
    /// `trajectories.jsonl`, which is returned open for writing.
    ///
    /// # Errors
    ///
    /// The directory cannot be made or written to, or holds the trajectories of another run and
    /// `overwrite` is false. What was there is then untouched.
    pub fn claim(path: &Path, overwrite: bool) -> Result<(Self, File), DirectoryError> {
        let unwritable = |path: &Path| {
            let path = path.to_owned();
            move |source| DirectoryError::Unwritable { path, source }
        };
        fs::create_dir_all(path).map_err(unwritable(path))?;
        let directory = Self { path: path.to_owned() };
        let trajectories = directory.trajectories();
        if overwrite {
            // Groups of a run whose trajectories are gone would mean nothing.
            let _ = fs::remove_file(directory.groups());
            match fs::remove_file(&trajectories) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(unwritable(&trajectories)(error));
                }
                _ => {}
            }
        }
        match OpenOptions::new().write(true).create_new(true).open(&trajectories) {
            Ok(file) => Ok((directory, file)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(DirectoryError::Occupied(path.to_owned()))
            }
            Err(error) => Err(unwritable(&trajectories)(error)),
        }
    }

    /// Writes `job.json`.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn write_job(&self, text: &str) -> Result<(), DirectoryError> {
        let path = self.path.join(JOB);
        fs::write(&path, text).map_err(|source| DirectoryError::Unwritable { path, source })
    }

    /// Gives the directory back, as empty as it was found, when a run ends before any work. Only
    /// what this run made is removed.
    pub fn abandon(&self) {
        // All of this is cleaning up after an error that is reported anyway.
        let _ = fs::remove_file(self.trajectories());
        let _ = fs::remove_file(self.groups());
        let _ = fs::remove_file(self.path.join(JOB));
        let _ = fs::remove_dir(&self.path);
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file of records.
    #[must_use]
    pub fn trajectories(&self) -> PathBuf {
        self.path.join(TRAJECTORIES)
    }

    /// The file of records of groups.
    #[must_use]
    pub fn groups(&self) -> PathBuf {
        self.path.join(GROUPS)
    }

    /// Where the output of server number `index` goes.
    #[must_use]
    pub fn server_log(&self, index: usize) -> PathBuf {
        self.path.join(SERVERS).join(format!("{index}.log"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_holds_one_run() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("a/b");
        let (directory, _file) = OutputDirectory::claim(&path, false).unwrap();
        fs::write(directory.trajectories(), "kept\n").unwrap();
        let error = OutputDirectory::claim(&path, false).unwrap_err();
        assert!(error.to_string().contains("--overwrite"), "{error}");
        assert_eq!(fs::read_to_string(directory.trajectories()).unwrap(), "kept\n");
        OutputDirectory::claim(&path, true).unwrap();
        assert_eq!(fs::read_to_string(directory.trajectories()).unwrap(), "");
    }

    #[test]
    fn what_is_no_directory_is_named() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("file");
        fs::write(&path, "").unwrap();
        let error = OutputDirectory::claim(&path.join("below"), false).unwrap_err().to_string();
        assert!(error.contains("file") && error.contains("--out"), "{error}");
    }

    #[test]
    fn an_abandoned_directory_leaves_nothing() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("run");
        let (directory, _file) = OutputDirectory::claim(&path, false).unwrap();
        directory.write_job("{}").unwrap();
        directory.abandon();
        assert!(!path.exists());
    }
}
