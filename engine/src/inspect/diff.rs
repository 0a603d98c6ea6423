//! Two recordings, episode by episode.

use std::collections::{BTreeMap, HashMap};

use envmill_inspect::{About, Comparison, Difference, episode_number};
use envmill_protocol::{Trajectory, record::ContentHash};

use super::{Inputs, InspectError, Reader, Selection};

/// So many differing episodes are held to be looked at; all are counted.
const FOUND_MAX: usize = 1000;

/// How two recordings compare.
#[derive(Clone, Debug, Default)]
pub struct Diff {
    /// Episodes with the same content.
    pub matched: u64,
    /// Episodes with another.
    pub differed: u64,
    /// Episodes of the first that the second lacks.
    pub missing: u64,
    /// Episodes of the second that the first lacks (or that the filters leave out of it).
    pub added: u64,
    /// Differences of the first 1,000 episodes that have one.
    pub found: Vec<(String, Difference)>,
    /// What was read of the first.
    pub about: About,
}

/// Compares two recordings of one job: the selected records of `inputs` with those of `others` that have
/// the same number. Memory holds 32 bytes an episode, and up to 1,000 records that differ.
///
/// # Errors
///
/// Records cannot be read.
pub fn diff(
    inputs: &Inputs,
    others: &Inputs,
    selection: &Selection,
    comparison: &Comparison,
    is_interrupted: &dyn Fn() -> bool,
) -> Result<Diff, InspectError> {
    let mut hashes: HashMap<u64, ContentHash> = HashMap::new();
    each(others, is_interrupted, |number, record| {
        hashes.insert(number, record.content_hash);
    })?;
    let mut diff = Diff::default();
    let mut differing: BTreeMap<u64, Trajectory> = BTreeMap::new();
    diff.about = selection.each(inputs, is_interrupted, |record| {
        let Some(number) = episode_number(&record) else { return Ok(true) };
        match hashes.remove(&number) {
            None => diff.missing += 1,
            Some(hash) if hash == record.content_hash => diff.matched += 1,
            Some(_) => {
                diff.differed += 1;
                if differing.len() < FOUND_MAX {
                    differing.insert(number, record);
                }
            }
        }
        Ok(true)
    })?;
    diff.added = hashes.len() as u64;
    let mut found = BTreeMap::new();
    each(others, is_interrupted, |number, other| {
        let Some(record) = differing.get(&number) else { return };
        match comparison.first_difference(record, other) {
            Some(difference) => {
                found.insert(number, (record.trajectory_id.clone(), difference));
            }
            // The hash is of more than plays: of the task and the tokens, too.
            None => {
                let difference = Difference {
                    step: None,
                    what: "other",
                    recorded: record.content_hash.to_string(),
                    played: other.content_hash.to_string(),
                };
                found.insert(number, (record.trajectory_id.clone(), difference));
            }
        }
    })?;
    diff.found = found.into_values().collect();
    Ok(diff)
}

fn each(
    inputs: &Inputs,
    is_interrupted: &dyn Fn() -> bool,
    mut see: impl FnMut(u64, &Trajectory),
) -> Result<(), InspectError> {
    let mut reader = Reader::new(inputs, is_interrupted);
    while let Some(record) = reader.read()? {
        if let Some(number) = episode_number(&record) {
            see(number, &record);
        }
    }
    Ok(())
}
