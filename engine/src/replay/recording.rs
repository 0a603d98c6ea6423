//! Recorded episodes, by their numbers.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, BufWriter, Write as _},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use envmill_core::episode_of;
use envmill_protocol::{
    EpisodeIndex, Trajectory,
    record::{read_json_line, write_json_line},
};

use crate::sink::{Records, RecordsError, Why};

/// The episodes of a file of records, found by their numbers within their job: a replay with the same seed and
/// tasks resets episode `i` as episode `i` was reset.
///
/// In memory are 24 bytes an episode: where its line is in the file, from which it is read each time that it is
/// asked for. What is no file of lines is copied into one in the temporary directory, which has no name and is
/// gone with this.
#[derive(Debug)]
pub struct Recording {
    path: PathBuf,
    lines: File,
    places: HashMap<EpisodeIndex, Place>,
}

/// Where a line is.
#[derive(Clone, Copy, Debug)]
struct Place {
    start: u64,
    bytes: usize,
}

/// A recording cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// It cannot be read.
    #[error("--policy replay: {0}")]
    Unreadable(#[from] RecordsError),
    /// What is no file of lines cannot be made one.
    #[error("--policy replay: {} cannot be copied into the temporary directory: {source}", .path.display())]
    Uncopied {
        /// The recording.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It has no episodes.
    #[error("--policy replay: {0} has no whole record to play")]
    Empty(String),
}

impl Recording {
    /// Reads a file of records in any of our formats. What follows its first damage is left out. The file must stay
    /// as it is for as long as this is used.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or holds no record, or there is no room to copy one that has no lines.
    pub fn read(path: &Path) -> Result<Self, RecordingError> {
        let uncopied = |source| RecordingError::Uncopied { path: path.to_owned(), source };
        let mut records = Records::open(path)?;
        let mut copy = None;
        if !records.is_lines() {
            copy = Some(BufWriter::new(tempfile::tempfile().map_err(uncopied)?));
        }
        let (mut places, mut start, mut line) = (HashMap::new(), 0, Vec::new());
        while let Some(record) = records.next() {
            let record = match record {
                Ok(record) => record,
                Err(error) if error.why.is_damage() => {
                    tracing::warn!(%error, "the recording is played up to here");
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            let end = match &mut copy {
                None => records.whole_bytes(),
                Some(copy) => {
                    line.clear();
                    write_json_line(&mut line, &record);
                    copy.write_all(&line).map_err(uncopied)?;
                    start + line.len() as u64
                }
            };
            if let Some(index) = episode_of(&record.job_id, &record.trajectory_id) {
                // One that was read fits into memory.
                places.insert(index, Place { start, bytes: (end - start) as usize });
            }
            start = end;
        }
        if places.is_empty() {
            return Err(RecordingError::Empty(path.display().to_string()));
        }
        let lines = match copy {
            None => File::open(path).map_err(|error| unreadable(path, Why::Io(Arc::new(error))))?,
            Some(copy) => copy.into_inner().map_err(|error| uncopied(error.into_error()))?,
        };
        Ok(Self { path: path.to_owned(), lines, places })
    }

    /// All recorded episodes, in the order of their numbers, read one by one.
    ///
    /// # Errors
    ///
    /// As [`episode`](Self::episode).
    pub fn episodes(&self) -> impl Iterator<Item = Result<Trajectory, RecordsError>> {
        let mut all: Vec<_> = self.places.iter().collect();
        all.sort_by_key(|(index, _)| **index);
        all.into_iter().map(|(_, place)| self.at(*place))
    }

    /// The recorded episode of this number, if there is one.
    ///
    /// # Errors
    ///
    /// The file is no longer what it was.
    pub fn episode(&self, index: EpisodeIndex) -> Result<Option<Trajectory>, RecordsError> {
        self.places.get(&index).map(|place| self.at(*place)).transpose()
    }

    fn at(&self, place: Place) -> Result<Trajectory, RecordsError> {
        let mut line = vec![0; place.bytes];
        self.lines
            .read_exact_at(&mut line, place.start)
            .map_err(|error| unreadable(&self.path, Why::Io(Arc::new(error))))?;
        read_json_line(&line).map_err(|error| unreadable(&self.path, Why::Line(Arc::new(error))))
    }
}

fn unreadable(path: &Path, why: Why) -> RecordsError {
    RecordsError { path: path.to_owned(), why }
}
