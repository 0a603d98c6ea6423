//! Runs whose arguments are spelled out, and nothing but the account is checked.

use std::{collections::BTreeSet, fs, path::Path};

use envmill_protocol::{Trajectory, record::read_json_line};
use envmill_testing::{EnvmillCommand, Finished};

use crate::rig::ENVMILL;

/// `envmill run` with its directory and a summary that can be read.
pub(crate) fn envmill(out: &Path) -> EnvmillCommand {
    EnvmillCommand::new(ENVMILL).args(["run", "--json", "--quiet", "--out"]).arg(out)
}

/// Plays, whatever comes of it.
pub(crate) fn play(arguments: &[&str]) -> (Finished, Vec<Trajectory>) {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("run");
    let finished = envmill(&out).args(arguments).run().unwrap();
    let records = records(&out);
    (finished, records)
}

/// The records that a run has left, none where it has left no file.
pub(crate) fn records(out: &Path) -> Vec<Trajectory> {
    let text = fs::read(out.join("trajectories.jsonl")).unwrap_or_default();
    text.split_inclusive(|&byte| byte == b'\n').map(|line| read_json_line(line).unwrap()).collect()
}

/// Checks that each of the requested episodes has one record, and that the summary says so.
pub(crate) fn check_account(finished: &Finished, records: &[Trajectory], requested: u64) {
    let summary = finished.summary().unwrap();
    let episodes = |key: &str| summary["episodes"][key].as_u64().unwrap();
    let ended = ["completed", "truncated", "failed", "cancelled"].map(episodes);
    assert_eq!((episodes("requested"), ended.iter().sum::<u64>()), (requested, requested));
    let ids: BTreeSet<&str> = records.iter().map(|r| r.trajectory_id.as_str()).collect();
    assert_eq!((ids.len(), records.len()), (requested as usize, requested as usize));
}
