//! Where played episodes differ from recorded ones.

use std::io::{self, Write};

use envmill_core::episode_of;
use envmill_protocol::{Observed, Trajectory};
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
/// A record cannot be read, or the target does not take what is written.
pub fn compare(
    recording: &Recording,
    records: impl IntoIterator<Item = Result<Trajectory, RecordsError>>,
    out: &mut impl Write,
) -> io::Result<Replayed> {
    let mut replayed = Replayed::default();
    for played in records {
        let played = played.map_err(io::Error::other)?;
        let recorded = episode_of(&played.job_id, &played.trajectory_id)
            .and_then(|index| recording.episode(index));
        let found = match recorded {
            None => Some((None, "missing", String::new(), String::new())),
            Some(recorded) => first_difference(recorded, &played),
        };
        match (&found, recorded) {
            (None, _) => replayed.matched += 1,
            (Some(_), None) => replayed.missing += 1,
            (Some(_), Some(_)) => replayed.differed += 1,
        }
        if let Some((step, what, was, is)) = found {
            let line = Difference {
                trajectory_id: &played.trajectory_id,
                recorded_id: recorded.map(|recorded| recorded.trajectory_id.as_str()),
                step,
                what,
                recorded: was,
                played: is,
            };
            serde_json::to_writer(&mut *out, &line)?;
            out.write_all(b"\n")?;
        }
    }
    Ok(replayed)
}

type Found = (Option<usize>, &'static str, String, String);

fn first_difference(recorded: &Trajectory, played: &Trajectory) -> Option<Found> {
    match (&recorded.reset, &played.reset) {
        (Some(was), Some(is)) => {
            if let Some((what, was, is)) = observed(was, is) {
                return Some((None, if what == "observation" { "reset" } else { what }, was, is));
            }
        }
        (None, None) => {}
        (was, is) => {
            let word = |reset: &Option<Observed>| {
                if reset.is_some() { "a reset" } else { "no reset" }.to_owned()
            };
            return Some((None, "reset", word(was), word(is)));
        }
    }
    for (index, (was, is)) in recorded.steps.iter().zip(&played.steps).enumerate() {
        if !is_same(&was.action, &is.action) {
            return Some((Some(index), "action", text(&was.action), text(&is.action)));
        }
        if let Some((what, was, is)) = observed(&was.observed, &is.observed) {
            return Some((Some(index), what, was, is));
        }
    }
    let (was, is) = (recorded.steps.len(), played.steps.len());
    if was != is {
        return Some((Some(was.min(is)), "length", was.to_string(), is.to_string()));
    }
    let end = |record: &Trajectory| format!("{}: {}", record.end.name(), record.end.cause());
    let (was, is) = (end(recorded), end(played));
    (was != is).then_some((None, "end", was, is))
}

fn observed(was: &Observed, is: &Observed) -> Option<(&'static str, String, String)> {
    for (what, was, is) in [
        ("observation", was.observation.text(), is.observation.text()),
        ("reward", &was.reward.raw, &is.reward.raw),
        ("metadata", &was.metadata, &is.metadata),
    ] {
        if !is_same(was, is) {
            return Some((what, text(was), text(is)));
        }
    }
    let word = |one: &Observed| one.ended.map_or("", envmill_protocol::Ended::name).to_owned();
    (was.ended != is.ended).then(|| ("ended", word(was), word(is)))
}

/// Whether two texts are the same but for the line breaks that JSON lines do not keep.
fn is_same(was: &[u8], is: &[u8]) -> bool {
    let line = |byte: u8| if matches!(byte, b'\n' | b'\r') { b' ' } else { byte };
    was.len() == is.len() && was.iter().zip(is).all(|(&was, &is)| line(was) == line(is))
}

fn text(raw: &[u8]) -> String {
    String::from_utf8_lossy(raw).into_owned()
}
