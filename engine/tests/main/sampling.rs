//! How runs draw their tasks: by weight, in epochs, and by what came of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use envmill_protocol::record::read_group_line;
use envmill_testing::Watchdog;
use serde_json::Value;

use crate::{plain::envmill, rig::BOUND, rig::Job};

fn tasks_file(directory: &Path, rows: &str) -> String {
    let path = directory.join("tasks.jsonl");
    fs::write(&path, rows).unwrap();
    path.display().to_string()
}

#[test]
fn tasks_are_played_in_epochs_and_as_often_as_they_weigh() {
    let directory = tempfile::tempdir().unwrap();
    let rows = "{\"id\":\"a\",\"w\":2}\n{\"id\":\"b\",\"seed\":17}\n{\"id\":\"c\"}\n{\"id\":\"d\"}";
    let tasks = tasks_file(directory.path(), rows);
    let job = |name: &str| {
        Job::on(name, "native:synthetic?episode_steps=3")
            .args(["--tasks", &tasks])
            .words("--seed 3")
    };
    let words = "--epochs 4 --weight-key w --weights c=0 --weights d=0.5";
    let played = job("epochs").words(words).play();
    played.all_played();
    let count = |id: &str| played.records.iter().filter(|it| it.task_id == id).count();
    assert_eq!(["a", "b", "c", "d"].map(count), [8, 4, 0, 2]);
    for record in &played.records {
        let sent: BTreeMap<String, Value> =
            serde_json::from_slice(&record.reset_parameters).unwrap();
        assert_eq!(sent["seed"].as_u64(), record.seed, "a key comes once");
        if record.task_id == "b" {
            assert_eq!(record.seed, Some(17), "its own seed wins");
        }
    }
    let grouped = job("groups").words("--epochs 2 --samples 3").play();
    grouped.all_played();
    assert_eq!(grouped.records.len(), 2 * 4 * 3);

    for (words, expected) in [
        ("--epochs 2 --episodes 5", "--epochs"),
        ("--weights x=1", "there is no task `x`"),
        ("--epochs 1 --weights a=0.1 --weights b=0.1 --weights c=0.1 --weights d=0.1", ""),
    ] {
        if expected.is_empty() {
            // Which of them come in the first round follows from the seed.
            continue;
        }
        let refused = job("refused").words(words).refused();
        assert!(refused.contains(expected), "{refused}");
    }
    let refused = Job::on("no tasks", "native:echo").words("--epochs 2").refused();
    assert!(refused.contains("give --tasks or --split"), "{refused}");
}

/// A line of `rounds.jsonl`.
fn rounds(out: &Path) -> Vec<Value> {
    let text = fs::read_to_string(out.join("rounds.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn groups(out: &Path) -> BTreeMap<u64, String> {
    let text = fs::read_to_string(out.join("groups.jsonl")).unwrap();
    let group = |line: &str| {
        let record = read_group_line(format!("{line}\n").as_bytes()).unwrap();
        (record.group_id, record.task_id)
    };
    text.lines().map(group).collect()
}

#[test]
fn tasks_without_variance_are_visited_less_after_a_kill_too() {
    let _watchdog = Watchdog::start("revisited", BOUND);
    let directory = tempfile::tempdir().unwrap();
    let rows: String = (0..4).map(|task| format!("{{\"id\":\"t{task}\"}}\n")).collect();
    let tasks = tasks_file(directory.path(), &rows);
    let out = directory.path().join("run");
    let command = || {
        let words = "--env native:synthetic?episode_steps=3 --groups 24 --samples 2 --sessions 2 \
                     --name revisited --revisit-after 1 --revisit-at-least-one-in 4";
        envmill(&out).args(words.split(' ')).args(["--tasks", &tasks, "--resume"])
    };
    let finished = command().run().unwrap();
    assert_eq!(finished.code(), Some(0), "{finished:?}");
    let before = rounds(&out);
    // All rewards are the same, so that a task is soon visited every fourth time only.
    let last = before.last().unwrap()["round"].as_u64().unwrap();
    assert!(last > 8, "24 groups of 4 tasks are 6 rounds where each is played in each: {before:?}");
    let of = |rounds: &[Value], group: u64| {
        let starts = |it: &&Value| it["group"].as_u64().unwrap() <= group;
        let round = rounds.iter().take_while(starts).last().unwrap();
        let tasks = round["tasks"].as_array().unwrap();
        tasks.iter().map(|task| format!("t{task}")).collect::<BTreeSet<_>>()
    };
    for (group, task) in groups(&out) {
        assert!(of(&before, group).contains(&task), "group {group} plays {task}");
    }

    // As a kill would have left it: some records, fewer groups, and part of a round.
    for (file, kept) in [("trajectories.jsonl", 25), ("groups.jsonl", 9)] {
        let text = fs::read_to_string(out.join(file)).unwrap();
        let lines: String = text.split_inclusive('\n').take(kept).collect();
        fs::write(out.join(file), lines).unwrap();
    }
    let whole = fs::read_to_string(out.join("rounds.jsonl")).unwrap();
    fs::write(out.join("rounds.jsonl"), format!("{whole}{{\"round\":9")).unwrap();
    let again = command().run().unwrap();
    assert_eq!(again.code(), Some(0), "{again:?}");
    let after = rounds(&out);
    assert_eq!(after[..before.len()], before[..], "what was drawn stays");
    let played = groups(&out);
    assert_eq!(played.len(), 24);
    for (group, task) in played {
        assert!(of(&after, group).contains(&task), "group {group} plays {task}");
    }
    let other = command().args(["--revisit-after", "2"]).run().unwrap();
    assert_ne!(other.code(), Some(0), "{other:?}");
}
