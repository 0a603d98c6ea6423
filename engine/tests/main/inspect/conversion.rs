//! Records in other forms.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Stdio},
};

use envmill::sink::Records;
use envmill_protocol::{GeneratedKind, Trajectory, record::whole_prompt};
use envmill_testing::{Watchdog, python, script};

use super::{COLLECTED, CONVERSATION, inspect_with, play, told};
use crate::rig::{BOUND, bench_server};

fn records(path: &Path) -> Vec<Trajectory> {
    Records::open(path).unwrap().map(|record| record.unwrap()).collect()
}

fn convert(from: &Path, form: &str, to: &Path) {
    let finished = inspect_with(from, ["--to", form, "--out", to.to_str().unwrap()]);
    assert_eq!(finished.code(), Some(0), "{finished:?}");
}

#[test]
fn nothing_is_lost_between_any_two_forms() {
    let _watchdog = Watchdog::start("conversions", BOUND);
    let directory = tempfile::tempdir().unwrap();
    let forms = ["jsonl", "arrow", "parquet"];
    let at = |name: String| directory.path().join(name);
    for form in forms {
        let out = at(form.into());
        let job = "--episodes 12 --sessions 4 --max-steps 5 --policy constant:{\"done_at\":3,\"payload_bytes\":40}";
        play(&out, &format!("--env {} {job} --format {form}", bench_server().url()));
        let first = at(format!("from-{form}"));
        convert(&out, form, &first);
        let recorded = records(&first);
        assert_eq!(recorded.len(), 12);
        for target in forms {
            let (there, back) =
                (at(format!("{form}-{target}")), at(format!("{form}-{target}-{form}")));
            convert(&first, target, &there);
            assert_eq!(records(&there), recorded, "{form} to {target}");
            convert(&there, form, &back);
            assert_eq!(records(&back), recorded, "{form} to {target} and back");
        }
    }
    // With tokens, generations, blobs and messages.
    let line = at("line".into());
    fs::write(&line, CONVERSATION).unwrap();
    for target in forms {
        let there = at(format!("line-{target}"));
        convert(&line, target, &there);
        assert_eq!(records(&there), records(&line), "{target}");
    }
}

#[test]
fn nothing_is_overwritten_unless_forced() {
    let _watchdog = Watchdog::start("overwrites", BOUND);
    let directory = tempfile::tempdir().unwrap();
    let (from, to) = (directory.path().join("from"), directory.path().join("to"));
    fs::write(&from, CONVERSATION).unwrap();
    fs::write(&to, "precious").unwrap();
    let words = ["--to", "parquet", "--out", to.to_str().unwrap()];
    let refused = inspect_with(&from, words);
    assert!(refused.code() == Some(2) && refused.stderr.contains("--force"), "{refused:?}");
    assert_eq!(fs::read_to_string(&to).unwrap(), "precious");
    let finished = inspect_with(&from, words.into_iter().chain(["--force"]));
    assert_eq!(finished.code(), Some(0), "{finished:?}");
    assert_eq!(records(&to).len(), 1);
    assert_eq!(fs::metadata(&to).unwrap().permissions().mode() & 0o400, 0o400);
    // What is read is never replaced, and nothing half made is left.
    let itself = ["--to", "jsonl", "--force", "--out", from.to_str().unwrap()];
    assert_eq!(inspect_with(&from, itself).code(), Some(2));
    let nowhere = directory.path().join("no/such");
    let nowhere = ["--to", "jsonl", "--out", nowhere.to_str().unwrap()];
    assert_eq!(inspect_with(&from, nowhere).code(), Some(2));
    assert_eq!(inspect_with(&from, ["--to", "jsonl"]).code(), Some(2));
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
}

#[test]
fn openenv_reads_what_is_made_for_it() {
    let _watchdog = Watchdog::start("openenv's forms", BOUND);
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    play(&at("run"), "--env native:cartpole --episodes 5");
    fs::create_dir(at("collected")).unwrap();
    convert(&at("run"), "episode-record", &at("collected/results.jsonl"));
    let loaded = Command::new(python().unwrap())
        .arg(script("load_episode_records.py"))
        .arg(at("collected"))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(loaded.status.success(), "{}", String::from_utf8_lossy(&loaded.stderr));
    // And they read as records again, with what there was room for.
    let (was, is) = (told(at("run"), "", 0), told(at("collected"), "", 0));
    for key in ["records", "ends", "steps", "lengths", "returns", "seeds"] {
        assert_eq!(was[key], is[key], "{key}");
    }

    fs::write(at("line"), CONVERSATION).unwrap();
    let words =
        ["--to", "training-trace", "--out", at("traces").to_str().unwrap()].map(str::to_owned);
    let finished = inspect_with(at("line"), words.iter().map(String::as_str));
    assert!(finished.code() == Some(0) && finished.stderr.contains("lost"), "{finished:?}");
    let mut checker = Command::new(python().unwrap())
        .arg(script("training_trace.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    checker.stdin.take().unwrap().write_all(&fs::read(at("traces")).unwrap()).unwrap();
    let checked = checker.wait_with_output().unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    assert_eq!(String::from_utf8_lossy(&checked.stdout).trim(), "2 6");
    // A trace reads as a record again, with the generations that it has.
    convert(&at("traces"), "parquet", &at("again"));
    let (was, is) = (records(&at("line")), records(&at("again")));
    let spoken = |record: &Trajectory| {
        let all = record.generations.iter().enumerate();
        all.filter(|(_, it)| it.kind == GeneratedKind::Agent)
            .map(|(index, it)| (whole_prompt(&record.generations, index), it))
            .map(|(prompt, it)| (prompt, it.token_ids.clone(), it.logprobs.clone()))
            .collect::<Vec<_>>()
    };
    assert_eq!(spoken(&was[0]), spoken(&is[0]));
    assert_eq!((is[0].reward, &is[0].trajectory_id), (None, &was[0].trajectory_id));
    // Where no model played there is nothing to trace.
    let none = ["--to", "training-trace", "--out", at("none").to_str().unwrap()].map(str::to_owned);
    let refused = inspect_with(at("run"), none.iter().map(String::as_str));
    assert!(
        refused.code() == Some(2) && refused.stderr.contains("no sampled tokens"),
        "{refused:?}"
    );
    assert!(!at("none").exists());

    fs::write(at("theirs"), COLLECTED).unwrap();
    convert(&at("theirs"), "parquet", &at("ours"));
    assert_eq!(records(&at("ours")).len(), 3);
}
