//! The main job end to end: the built command against the embedded server and against real uvicorn.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod formats;
mod replays;
mod resume;

use std::{collections::BTreeSet, fs, path::Path, time::Duration};

use envmill_protocol::{Trajectory, record::read_json_line};
use envmill_testing::{EnvmillCommand, Finished, PythonServer, PythonServerOptions, Watchdog};

const BOUND: Duration = Duration::from_secs(300);

fn play(arguments: &[&str]) -> (Finished, Vec<Trajectory>) {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("run");
    let finished = envmill(&out).args(arguments).run().unwrap();
    let records = records(&out);
    (finished, records)
}

/// `envmill run` with its directory and a summary that can be read.
fn envmill(out: &Path) -> EnvmillCommand {
    EnvmillCommand::new(env!("CARGO_BIN_EXE_envmill"))
        .args(["run", "--json", "--quiet", "--out"])
        .arg(out)
}

fn records(out: &Path) -> Vec<Trajectory> {
    let text = fs::read(out.join("trajectories.jsonl")).unwrap_or_default();
    text.split_inclusive(|&byte| byte == b'\n').map(|line| read_json_line(line).unwrap()).collect()
}

fn check_account(finished: &Finished, records: &[Trajectory], requested: u64) {
    let summary = finished.summary().unwrap();
    let episodes = |key: &str| summary["episodes"][key].as_u64().unwrap();
    let ended = ["completed", "truncated", "failed", "cancelled"].map(episodes);
    assert_eq!((episodes("requested"), ended.iter().sum::<u64>()), (requested, requested));
    let ids: BTreeSet<&str> = records.iter().map(|r| r.trajectory_id.as_str()).collect();
    assert_eq!((ids.len(), records.len()), (requested as usize, requested as usize));
}

#[test]
fn the_embedded_server_plays_every_episode() {
    let _watchdog = Watchdog::start("embedded", BOUND);
    let arguments = ["--env", "native:cartpole", "--episodes", "200", "--sessions", "16"];
    let hashes = || {
        let (finished, records) = play(&arguments);
        assert_eq!(finished.code(), Some(0), "{finished:?}");
        check_account(&finished, &records, 200);
        records.iter().map(|record| record.content_hash.to_string()).collect::<BTreeSet<_>>()
    };
    assert_eq!(hashes(), hashes(), "the same seeds must give the same play");
}

#[test]
fn a_uvicorn_server_plays_every_episode() {
    let _watchdog = Watchdog::start("uvicorn", BOUND);
    let server = PythonServer::of("staggered_env").unwrap();
    let policy = "constant:{\"payload_bytes\":16}";
    let (finished, records) = play(&[
        "--env",
        &server.url(),
        "--policy",
        policy,
        "--episodes",
        "100",
        "--sessions",
        "16",
    ]);
    assert_eq!(finished.code(), Some(0), "{finished:?}");
    check_account(&finished, &records, 100);
    assert!(records.iter().all(|record| !record.steps.is_empty()));
}

#[test]
fn a_server_with_few_places_fails_no_episode() {
    let _watchdog = Watchdog::start("capacity", BOUND);
    let options = PythonServerOptions::new("staggered_env").env("MAX_CONCURRENT_ENVS", 8);
    let server = PythonServer::start(options).unwrap();
    let url = server.url();
    let (finished, records) =
        play(&["--env", &url, "--policy", "constant:{}", "--episodes", "100", "--sessions", "64"]);
    assert_eq!(finished.code(), Some(0), "{finished:?}");
    check_account(&finished, &records, 100);
}

#[test]
fn what_cannot_be_run_is_refused_before_any_work() {
    let _watchdog = Watchdog::start("refused", BOUND);
    for arguments in [
        &["--env", "http://127.0.0.1:9"][..],
        &["--env", "native:carpole"],
        &["--policy", "constant:1"],
    ] {
        let (finished, records) = play(arguments);
        assert_eq!(finished.code(), Some(2), "{finished:?}");
        assert!(finished.stderr.starts_with("error: "), "{finished:?}");
        assert!(records.is_empty());
    }
}
