//! The directory of one run.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Write},
    path::{Path, PathBuf},
};

use super::{
    FileSink, Format, GroupLines, Records, RecordsError, arrow_stream::ArrowStream, error::remedy,
    json_lines::JsonLines,
};

const JOB: &str = "job.json";
const GROUPS: &str = "groups.jsonl";
const ROUNDS: &str = "rounds.jsonl";
const SERVERS: &str = "servers";
const SCORERS: &str = "scorers";
const EPISODE_RECORDS: &str = "results.jsonl";
pub(super) const DIFFERENCES: &str = "differences.jsonl";
/// What is being written and takes its own name once it is whole.
const PARTIAL: &str = "partial";

/// A directory that holds what one run leaves:
///
/// * the file of records, which has its name from its [`Format`];
/// * `groups.jsonl`: one record of a group a line, where groups were asked for;
/// * `rounds.jsonl`: which tasks each round has, a line each, where they are drawn by what came of groups;
/// * `job.json`: the configuration of the run as it was resolved, without secrets;
/// * `results.jsonl`: the episodes as OpenEnv's `EpisodeRecord`, where they were asked for;
/// * `differences.jsonl`: where a replay differs from its recording;
/// * `servers/N.log`: the output of the servers that the run started;
/// * `scorers/NAME.log`: what scorers' processes have printed.
///
/// It is locked against other runs as long as this lives.
#[derive(Debug)]
pub struct OutputDirectory {
    path: PathBuf,
    format: Format,
    /// Whether there was nothing here of an earlier run.
    is_new: bool,
    /// Where a file of records goes on; what follows is cut.
    whole_bytes: u64,
    _lock: Option<File>,
}

/// What may become of records that are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// There must be none.
    New,
    /// They are removed.
    Overwrite,
    /// They are kept, and the run goes on behind them.
    Resume,
}

/// A directory cannot hold a run. What was there is untouched.
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
        "{} already holds trajectories: choose another directory with --out, go on with that run \
         with --resume, or replace it with --overwrite",
        .0.display()
    )]
    Occupied(PathBuf),
    /// Another run writes there now.
    #[error("{} is being written by another run: wait for its end, or choose another --out", .0.display())]
    Locked(PathBuf),
    /// There are records and nothing that says of which job.
    #[error(
        "{} holds trajectories and no readable job.json to resume: choose another --out, or \
         --overwrite",
        .0.display()
    )]
    NoJob(PathBuf),
    /// The records that are there cannot be read.
    #[error(transparent)]
    Records(#[from] RecordsError),
}

impl OutputDirectory {
    /// Makes the directory, with all above it, locks it, and makes sure that it is free for a run
    /// whose records have this `format`.
    ///
    /// # Errors
    ///
    /// The directory cannot be made or written to, another run writes there, or it holds what
    /// `claim` does not allow for.
    pub fn claim(path: &Path, format: Format, claim: Claim) -> Result<Self, DirectoryError> {
        let unwritable = |path: &Path| {
            let path = path.to_owned();
            move |source| DirectoryError::Unwritable { path, source }
        };
        fs::create_dir_all(path).map_err(unwritable(path))?;
        let lock = lock(path)?;
        let mut directory =
            Self { path: path.to_owned(), format, is_new: true, whole_bytes: 0, _lock: lock };
        let occupied = directory.all_records().any(|file| file.exists());
        match claim {
            Claim::New if occupied => return Err(DirectoryError::Occupied(path.to_owned())),
            Claim::New => {}
            Claim::Overwrite => {
                let made =
                    [JOB, GROUPS, ROUNDS, EPISODE_RECORDS, DIFFERENCES].map(|name| path.join(name));
                for file in directory.all_records().chain(made) {
                    remove(&file).map_err(unwritable(&file))?;
                }
            }
            Claim::Resume => {
                let job = directory.path.join(JOB).exists();
                let holds = |file: PathBuf| fs::metadata(file).is_ok_and(|file| file.len() > 0);
                if !job && directory.all_records().any(holds) {
                    return Err(DirectoryError::NoJob(path.to_owned()));
                }
                directory.is_new = !job;
            }
        }
        // A directory that cannot be written to must show before anything is played.
        let file = directory.running();
        OpenOptions::new().append(true).create(true).open(&file).map_err(unwritable(&file))?;
        Ok(directory)
    }

    /// The text of `job.json` that an earlier run left; `None` for a run that begins.
    #[must_use]
    pub fn job(&self) -> Option<String> {
        fs::read_to_string(self.path.join(JOB)).ok().filter(|_| !self.is_new)
    }

    /// Whether it holds the records of a run that had come to its end, as far as its format tells:
    /// only Parquet does.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.format.final_file() != self.format.running_file() && self.records().exists()
    }

    /// Goes through the whole records of an earlier run. What follows them, a torn last line or
    /// batch, is cut once [`sink`](Self::sink) goes on behind them; until then nothing is changed, but that
    /// columns of an earlier version become those of this one.
    ///
    /// # Errors
    ///
    /// The records cannot be read, or a newer version wrote them.
    pub fn recover(
        &mut self,
        mut see: impl FnMut(&envmill_protocol::Trajectory),
    ) -> Result<(), DirectoryError> {
        let running = self.running();
        let length = |path: &Path| fs::metadata(path).map_or(0, |file| file.len());
        if self.format == Format::Parquet && length(&running) == 0 && self.records().exists() {
            // The run had come to its end. Its records go back to where they can go on.
            self.write_anew(&self.records())?;
        } else if Records::open(&running)?.has_older_columns() {
            self.write_anew(&running)?;
        }
        let mut records = Records::open(&running)?;
        for record in records.by_ref() {
            match record {
                Ok(record) => see(&record),
                Err(error) if error.why.is_damage() => {
                    tracing::warn!(%error, "what follows the last whole record is cut");
                    break;
                }
                Err(error) => return Err(error.into()),
            }
        }
        self.whole_bytes = records.whole_bytes();
        Ok(())
    }

    /// Writes the whole records of a file to where they can go on.
    fn write_anew(&self, from: &Path) -> Result<(), DirectoryError> {
        let partial = self.partial(self.format.running_file());
        let fail = |source| DirectoryError::Unwritable { path: partial.clone(), source };
        let file = File::create(&partial).map_err(fail)?;
        let encoder = ArrowStream::new(false).map_err(fail)?;
        let mut sink = FileSink::start(file, 0, &partial, encoder).map_err(fail)?;
        for record in Records::open(from)? {
            match record {
                Ok(record) => super::Sink::submit(&mut sink, &mut vec![record]),
                Err(error) if error.why.is_damage() && from == self.running() => break,
                Err(error) => return Err(error.into()),
            }
        }
        super::Sink::finish(&mut sink).map_err(|error| fail(io::Error::other(error)))?;
        fs::rename(&partial, self.running()).map_err(fail)
    }

    /// What writes the records of this run, behind those that were recovered.
    ///
    /// # Errors
    ///
    /// The file cannot be opened, or the system gives no thread.
    pub fn sink(&self) -> Result<FileSink, DirectoryError> {
        let path = self.running();
        let start = || {
            let mut file = OpenOptions::new().write(true).open(&path)?;
            file.set_len(self.whole_bytes)?;
            io::Seek::seek(&mut file, io::SeekFrom::End(0))?;
            match self.format {
                Format::JsonLines => FileSink::start(file, self.whole_bytes, &path, JsonLines),
                Format::Arrow | Format::Parquet => {
                    let encoder = ArrowStream::new(self.whole_bytes > 0)?;
                    FileSink::start(file, self.whole_bytes, &path, encoder)
                }
            }
        };
        start().map_err(|source| DirectoryError::Unwritable { path: path.clone(), source })
    }

    /// What writes the records of groups, behind the lines that are `kept` of an earlier run.
    ///
    /// # Errors
    ///
    /// The file cannot be made.
    pub fn group_lines(&self, kept: &[u8]) -> Result<GroupLines, DirectoryError> {
        let path = self.groups();
        let start = || {
            self.write_whole(GROUPS, |file| file.write_all(kept))?;
            OpenOptions::new().append(true).open(&path)
        };
        let file =
            start().map_err(|source| DirectoryError::Unwritable { path: path.clone(), source })?;
        Ok(GroupLines::new(file, &path, kept.len() as u64))
    }

    /// Writes `job.json`, whole or not at all.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn write_job(&self, text: &str) -> Result<(), DirectoryError> {
        let path = self.path.join(JOB);
        self.write_whole(JOB, |file| file.write_all(text.as_bytes()))
            .map_err(|source| DirectoryError::Unwritable { path, source })
    }

    /// Writes a file of this name under another one, and gives it its name once it is on the disk.
    pub(super) fn write_whole(
        &self,
        name: &str,
        write: impl FnOnce(&mut File) -> io::Result<()>,
    ) -> io::Result<()> {
        let partial = self.partial(name);
        let mut file = File::create(&partial)?;
        write(&mut file)?;
        file.sync_data()?;
        fs::rename(&partial, self.path.join(name))
    }

    /// Gives the directory back as it was found, when a run ends before any work. Only what this run
    /// made is removed.
    pub fn abandon(&self) {
        if !self.is_new {
            let running = self.running();
            if self.is_over() && fs::metadata(&running).is_ok_and(|file| file.len() == 0) {
                // It was made to see that the directory can be written to.
                let _ = fs::remove_file(running);
            }
            return;
        }
        // All of this is cleaning up after an error that is reported anyway.
        let _ = fs::remove_file(self.running());
        let _ = fs::remove_file(self.groups());
        let _ = fs::remove_file(self.rounds());
        let _ = fs::remove_file(self.path.join(JOB));
        let _ = fs::remove_dir(&self.path);
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The form of the records.
    #[must_use]
    pub const fn format(&self) -> Format {
        self.format
    }

    /// The file of records, once the run is over.
    #[must_use]
    pub fn records(&self) -> PathBuf {
        self.path.join(self.format.final_file())
    }

    /// The file of records while the run lasts.
    #[must_use]
    pub fn running(&self) -> PathBuf {
        self.path.join(self.format.running_file())
    }

    /// The file of records of groups.
    #[must_use]
    pub fn groups(&self) -> PathBuf {
        self.path.join(GROUPS)
    }

    /// The file of rounds of tasks.
    #[must_use]
    pub fn rounds(&self) -> PathBuf {
        self.path.join(ROUNDS)
    }

    /// The directory in which the output of servers goes, one file for each.
    #[must_use]
    pub fn server_logs(&self) -> PathBuf {
        self.path.join(SERVERS)
    }

    /// The directory in which the output of scorers' processes goes, one file for each scorer.
    #[must_use]
    pub fn scorer_logs(&self) -> PathBuf {
        self.path.join(SCORERS)
    }

    pub(super) const fn episode_records(&self) -> &'static str {
        EPISODE_RECORDS
    }

    fn partial(&self, name: &str) -> PathBuf {
        self.path.join(format!("{name}.{PARTIAL}"))
    }

    fn all_records(&self) -> impl Iterator<Item = PathBuf> + use<> {
        let path = self.path.clone();
        ["trajectories.jsonl", "trajectories.arrows", "trajectories.parquet"]
            .into_iter()
            .map(move |name| path.join(name))
    }
}

fn lock(path: &Path) -> Result<Option<File>, DirectoryError> {
    // The directory itself is locked, so that nothing is left behind whatever ends the run.
    let Ok(file) = File::open(path) else { return Ok(None) };
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Err(DirectoryError::Locked(path.to_owned())),
        Err(TryLockError::Error(error)) => {
            tracing::warn!(%error, "the file system of the output directory has no locks");
            Ok(None)
        }
    }
}

fn remove(file: &Path) -> io::Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(path: &Path, claim: Claim) -> Result<OutputDirectory, DirectoryError> {
        OutputDirectory::claim(path, Format::JsonLines, claim)
    }

    #[test]
    fn a_directory_holds_one_run() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("a/b");
        let directory = claim(&path, Claim::New).unwrap();
        fs::write(directory.records(), "kept\n").unwrap();
        assert!(matches!(claim(&path, Claim::Overwrite), Err(DirectoryError::Locked(_))));
        drop(directory);
        let error = claim(&path, Claim::New).unwrap_err();
        assert!(error.to_string().contains("--overwrite"), "{error}");
        assert!(matches!(claim(&path, Claim::Resume), Err(DirectoryError::NoJob(_))));
        assert_eq!(fs::read_to_string(path.join("trajectories.jsonl")).unwrap(), "kept\n");
        let directory = claim(&path, Claim::Overwrite).unwrap();
        assert_eq!(fs::read_to_string(directory.records()).unwrap(), "");
    }

    #[test]
    fn what_is_no_directory_is_named() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("file");
        fs::write(&path, "").unwrap();
        let error = claim(&path.join("below"), Claim::New).unwrap_err().to_string();
        assert!(error.contains("file") && error.contains("--out"), "{error}");
    }

    #[test]
    fn an_abandoned_directory_leaves_nothing() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("run");
        let directory = claim(&path, Claim::New).unwrap();
        directory.write_job("{}").unwrap();
        directory.abandon();
        assert!(!path.exists());
    }

    #[test]
    fn what_is_resumed_is_never_abandoned() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("run");
        claim(&path, Claim::Resume).unwrap().write_job("{}").unwrap();
        let directory = claim(&path, Claim::Resume).unwrap();
        assert_eq!(directory.job().as_deref(), Some("{}"));
        directory.abandon();
        assert!(path.join("job.json").exists());
    }

    /// Columns of this version do not fit behind those of an earlier one.
    #[test]
    fn columns_of_an_earlier_version_go_on_as_those_of_this_one() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("run");
        let resume = || OutputDirectory::claim(&path, Format::Arrow, Claim::Resume).unwrap();
        resume().write_job("{}").unwrap();
        let mut directory = resume();
        let mut torn =
            include_bytes!("../../formats/tests/data/records-1.arrows").as_slice().to_vec();
        // As a run leaves it that was killed.
        torn.truncate(torn.len() - 4);
        fs::write(directory.running(), torn).unwrap();
        let mut found = Vec::new();
        directory.recover(|record| found.push(record.clone())).unwrap();
        assert_eq!(found.len(), 1);
        let mut sink = directory.sink().unwrap();
        super::super::Sink::submit(&mut sink, &mut found.clone());
        super::super::Sink::finish(&mut sink).unwrap();
        let read: Vec<_> =
            Records::open(&directory.records()).unwrap().map(|record| record.unwrap()).collect();
        assert_eq!(read, [found.clone(), found].concat());
        assert!(!Records::open(&directory.records()).unwrap().has_older_columns());
    }
}
