//! Where played episodes differ from recorded ones.

use std::io::{self, Write};

use envmill_core::episode_of;
use envmill_inspect::Comparison;
use envmill_protocol::Trajectory;
use serde::Serialize;

use crate::{replay::Recording, sink::RecordsError};

/// How a replay came out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Replayed {
    /// Episodes that came out as recorded: the same observations, rewards and end.
    pub matched: u64,
    /// Episodes that did not.
    pub differed: u64,
    /// Episodes that are not in the recording.
    pub missing: u64,
}

/// A line of `differences.jsonl`: the first thing in which an episode differs.
#[derive(Serialize)]
struct Difference<'a> {
    trajectory_id: &'a str,
    recorded_id: Option<&'a str>,
    /// The step, from 0; null for the reset and the end.
    step: Option<usize>,
    /// `missing`, `reset`, `observation`, `reward`, `metadata`, `ended`, `action`, `length` or `end`.
    what: &'static str,
    recorded: String,
    played: String,
}

/// Compares every record with its recording, and writes a line for each that differs.
///
/// # Errors
///
/// A record cannot be read, here or there, or the target does not take what is written.
pub fn compare(
    recording: &Recording,
    records: impl IntoIterator<Item = Result<Trajectory, RecordsError>>,
    out: &mut impl Write,
) -> io::Result<Replayed> {
    let comparison = Comparison::default();
    let mut replayed = Replayed::default();
    for played in records {
        let played = played.map_err(io::Error::other)?;
        let recorded = match episode_of(&played.job_id, &played.trajectory_id) {
            Some(index) => recording.episode(index).map_err(io::Error::other)?,
            None => None,
        };
        let found = match &recorded {
            None => Some(envmill_inspect::Difference {
                step: None,
                what: "missing",
                recorded: String::new(),
                played: String::new(),
            }),
            Some(recorded) => comparison.first_difference(recorded, &played),
        };
        match (&found, &recorded) {
            (None, _) => replayed.matched += 1,
            (Some(_), None) => replayed.missing += 1,
            (Some(_), Some(_)) => replayed.differed += 1,
        }
        if let Some(found) = found {
            let line = Difference {
                trajectory_id: &played.trajectory_id,
                recorded_id: recorded.as_ref().map(|recorded| recorded.trajectory_id.as_str()),
                step: found.step,
                what: found.what,
                recorded: found.recorded,
                played: found.played,
            };
            serde_json::to_writer(&mut *out, &line)?;
            out.write_all(b"\n")?;
        }
    }
    Ok(replayed)
}
