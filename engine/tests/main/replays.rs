//! Recordings that are played again, and tasks.

use std::{collections::BTreeMap, fs};

use envmill::sink::Format;
use envmill_testing::{PythonServer, Watchdog};

use crate::{formats::records, plain::envmill, rig::BOUND};

#[test]
fn a_replay_matches_its_recording_and_tells_where_it_does_not() {
    let _watchdog = Watchdog::start("replay", BOUND);
    let directory = tempfile::tempdir().unwrap();
    let recorded = directory.path().join("recorded");
    let job = ["--env", "native:cartpole", "--episodes", "12", "--seed", "3"];
    let finished = envmill(&recorded).args(job).args(["--format", "parquet"]).run().unwrap();
    assert_eq!(finished.code(), Some(0), "{finished:?}");
    let policy = format!("replay:{}", recorded.join("trajectories.parquet").display());

    let out = directory.path().join("same");
    let finished = envmill(&out).args(job).args(["--policy", &policy]).run().unwrap();
    assert_eq!(finished.code(), Some(0), "{finished:?}");
    let replay = finished.summary().unwrap()["replay"].clone();
    assert_eq!(replay, serde_json::json!({"matched": 12, "differed": 0, "missing": 0}));
    assert_eq!(fs::read_to_string(out.join("differences.jsonl")).unwrap(), "");

    // Another seed starts elsewhere, and two episodes more were never recorded.
    let out = directory.path().join("other");
    let job = ["--env", "native:cartpole", "--episodes", "14", "--seed", "4"];
    let finished = envmill(&out).args(job).args(["--policy", &policy]).run().unwrap();
    let replay = finished.summary().unwrap()["replay"].clone();
    assert_eq!(replay, serde_json::json!({"matched": 0, "differed": 12, "missing": 2}));
    let differences = fs::read_to_string(out.join("differences.jsonl")).unwrap();
    assert_eq!(differences.lines().count(), 14);
    assert!(differences.contains("\"what\":\"reset\""), "{differences}");
}

#[test]
fn tasks_are_drawn_without_replacement() {
    let _watchdog = Watchdog::start("tasks", BOUND);
    let directory = tempfile::tempdir().unwrap();
    let server = PythonServer::of("tasks_env").unwrap();
    let url = server.url();
    let rows = directory.path().join("tasks.jsonl");
    fs::write(
        &rows,
        "{\"task_id\":\"a\",\"word\":\"one\"}\n{\"word\":\"two\"}\n{\"word\":\"three\"}\n",
    )
    .unwrap();
    let policy = ["--policy", "constant:{\"done_at\":2}", "--env", &url];
    let shown = |out: &std::path::Path| -> BTreeMap<String, Vec<String>> {
        let mut shown = BTreeMap::<_, Vec<String>>::new();
        for record in records(out, Format::JsonLines) {
            let observation = record.reset.unwrap().observation;
            let observation: serde_json::Value = serde_json::from_slice(&observation).unwrap();
            let payload = observation["payload"].as_str().unwrap().to_owned();
            shown.entry(record.task_id).or_default().push(payload);
        }
        shown
    };

    let out = directory.path().join("file");
    let finished =
        envmill(&out).args(policy).args(["--episodes", "6", "--tasks"]).arg(&rows).run().unwrap();
    assert_eq!(finished.code(), Some(0), "{finished:?}");
    let expected = [("1", "two"), ("2", "three"), ("a", "one")]
        .map(|(id, word)| (id.to_owned(), vec![word.to_owned(); 2]));
    assert_eq!(shown(&out), BTreeMap::from(expected));

    // Another content of the file is another job.
    fs::write(&rows, "{\"word\":\"four\"}\n").unwrap();
    let resumed = ["--episodes", "6", "--resume", "--tasks"];
    let finished = envmill(&out).args(policy).args(resumed).arg(&rows).run().unwrap();
    assert_eq!(finished.code(), Some(2), "{finished:?}");
    assert!(finished.stderr.contains("tasks-digest"), "{finished:?}");

    let out = directory.path().join("split");
    let finished =
        envmill(&out).args(policy).args(["--episodes", "5", "--split", "train"]).run().unwrap();
    assert_eq!(finished.code(), Some(0), "{finished:?}");
    let expected: Vec<_> =
        (0..5).map(|index| (format!("train/{index}"), vec![format!("train/{index}")])).collect();
    assert_eq!(shown(&out), BTreeMap::from_iter(expected));

    let without = PythonServer::of("staggered_env").unwrap();
    let out = directory.path().join("none");
    let arguments = ["--env", &without.url(), "--split", "train"];
    let finished = envmill(&out).args(arguments).run().unwrap();
    assert_eq!(finished.code(), Some(2), "{finished:?}");
    assert!(finished.stderr.contains("--tasks FILE"), "{finished:?}");
    assert!(!out.exists());
}
