//! Recorded episodes, by their numbers.

use std::{collections::HashMap, path::Path};

use envmill_core::episode_of;
use envmill_protocol::{EpisodeIndex, Trajectory};

use crate::sink::{Records, RecordsError};

/// The episodes of a file of records, held in memory, found by their numbers within their job: a
/// replay with the same seed and tasks resets episode `i` as episode `i` was reset.
#[derive(Debug, Default)]
pub struct Recording(HashMap<EpisodeIndex, Trajectory>);

/// A recording cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// It cannot be read.
    #[error("--policy replay: {0}")]
    Unreadable(#[from] RecordsError),
    /// It has no episodes.
    #[error("--policy replay: {0} has no whole record to play")]
    Empty(String),
}

impl Recording {
    /// Reads a file of records in any of our formats. What follows its first damage is left out.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or holds no record.
    pub fn read(path: &Path) -> Result<Self, RecordingError> {
        let mut episodes = HashMap::new();
        for record in Records::open(path)? {
            match record {
                Ok(record) => {
                    if let Some(index) = episode_of(&record.job_id, &record.trajectory_id) {
                        episodes.insert(index, record);
                    }
                }
                Err(error) if error.why.is_damage() => {
                    tracing::warn!(%error, "the recording is played up to here");
                }
                Err(error) => return Err(error.into()),
            }
        }
        if episodes.is_empty() {
            return Err(RecordingError::Empty(path.display().to_string()));
        }
        Ok(Self(episodes))
    }

    /// All recorded episodes, in the order of their numbers.
    pub fn episodes(&self) -> impl Iterator<Item = &Trajectory> {
        let mut all: Vec<_> = self.0.iter().collect();
        all.sort_by_key(|(index, _)| **index);
        all.into_iter().map(|(_, record)| record)
    }

    /// The recorded episode of this number.
    #[must_use]
    pub fn episode(&self, index: EpisodeIndex) -> Option<&Trajectory> {
        self.0.get(&index)
    }
}
