//! Groups end to end: what the built command leaves of them.

use std::{collections::BTreeSet, fs, time::Duration};

use envmill_protocol::{
    Trajectory,
    record::{FirstObservations, GroupOutcome, GroupRecord, read_group_line, read_json_line},
};
use envmill_testing::{EnvmillCommand, Watchdog};

use crate::plain::{envmill, records};

const BOUND: Duration = Duration::from_secs(300);

#[test]
fn groups_play_one_task_each() {
    let _watchdog = Watchdog::start("tasks of groups", BOUND);
    let directory = tempfile::tempdir().unwrap();
    let (out, rows) = (directory.path().join("run"), directory.path().join("rows.jsonl"));
    fs::write(&rows, "{\"id\":\"a\",\"word\":1}\n{\"id\":\"b\",\"word\":2}\n").unwrap();
    let finished = envmill(&out)
        .args(["--env", "native:synthetic", "--samples", "3", "--groups", "4", "--tasks"])
        .arg(&rows)
        .run()
        .unwrap();
    assert_eq!(finished.code(), Some(0), "{finished:?}");
    let text = fs::read_to_string(out.join("groups.jsonl")).unwrap();
    let groups: Vec<GroupRecord> =
        text.lines().map(|line| read_group_line(line.as_bytes()).unwrap()).collect();
    let mut tasks: Vec<_> = groups.iter().map(|it| (it.group_id, it.task_id.as_str())).collect();
    tasks.sort_unstable();
    // Each round plays each task once.
    for round in tasks.chunks(2) {
        assert_eq!(BTreeSet::from([round[0].1, round[1].1]), BTreeSet::from(["a", "b"]));
    }
    let records = records(&out);
    assert_eq!(records.len(), 12);
    for record in records {
        assert_eq!(record.task_id, tasks[record.group_id as usize].1);
        let word = if record.task_id == "a" { "\"word\":1}" } else { "\"word\":2}" };
        let parameters = String::from_utf8_lossy(&record.reset_parameters).into_owned();
        assert!(parameters.ends_with(word), "{parameters}");
    }
}

#[test]
fn groups_are_played_cut_and_recorded() {
    let _watchdog = Watchdog::start("groups", BOUND);
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("run");
    let finished = EnvmillCommand::new(env!("CARGO_BIN_EXE_envmill"))
        .args(["run", "--json", "--env", "native:cartpole", "--sessions", "12", "--groups", "20"])
        .args(["--samples", "4", "--oversample", "2", "--group-filter", "zero-variance"])
        .args(["--refill-max", "3", "--out"])
        .arg(&out)
        .run()
        .unwrap();
    assert_eq!(finished.code(), Some(0), "{finished:?}");
    let text = fs::read_to_string(out.join("trajectories.jsonl")).unwrap();
    let trajectories: Vec<Trajectory> =
        text.lines().map(|line| read_json_line(line.as_bytes()).unwrap()).collect();
    let text = fs::read_to_string(out.join("groups.jsonl")).unwrap();
    let groups: Vec<GroupRecord> =
        text.lines().map(|line| read_group_line(line.as_bytes()).unwrap()).collect();
    let summary = finished.summary().unwrap();
    let refilled = summary["groups"]["refilled"].as_u64().unwrap();
    assert_eq!(groups.len() as u64, 20 + refilled);
    assert_eq!(trajectories.len(), 6 * groups.len());
    assert_eq!(summary["episodes"]["requested"], trajectories.len());
    assert_eq!(summary["groups"]["recorded"], groups.len());
    for group in &groups {
        let filtered = group.outcome == GroupOutcome::Filtered;
        assert!(filtered || group.outcome == GroupOutcome::Complete, "{group:?}");
        assert_eq!((group.used, group.members.len()), (if filtered { 0 } else { 4 }, 6));
        assert_eq!(group.seed, Some(group.group_id));
        // CartPole heeds its seed.
        assert_ne!(group.first_observations, FirstObservations::Differ, "{group:?}");
        for member in &group.members {
            let own = trajectories.iter().find(|it| it.trajectory_id == member.trajectory_id);
            assert_eq!(own.map(|it| &it.end), Some(&member.end));
        }
    }
}
