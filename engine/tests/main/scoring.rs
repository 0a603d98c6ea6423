//! Runs whose episodes are scored by somebody outside: real Python processes, and a real server.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use envmill_protocol::{Trajectory, record::End};
use envmill_testing::{EnvmillCommand, Finished, Watchdog, python, wait_until};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    plain::{check_account, envmill, records},
    rig::{BOUND, let_pass},
    service::scorers::{REWARDS, score_server},
};

/// A place with `rewards.py` in it.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        let directory = TempDir::new().unwrap();
        fs::write(directory.path().join("rewards.py"), REWARDS).unwrap();
        Self(directory)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn out(&self) -> PathBuf {
        self.path("run")
    }

    /// A run of cartpole with these words behind it.
    fn command(&self, words: &str) -> EnvmillCommand {
        envmill(&self.out())
            .args("--env native:cartpole --max-steps 6 --name scored --python".split(' '))
            .arg(python().unwrap())
            .arg("--python-path")
            .arg(self.0.path())
            .args(words.split_whitespace())
    }

    /// Plays, and gives back the summary with the records in order.
    fn play(&self, words: &str) -> (Finished, Vec<Trajectory>) {
        let finished = self.command(words).run().unwrap();
        (finished, in_order(&self.out()))
    }
}

fn in_order(out: &Path) -> Vec<Trajectory> {
    let mut records = records(out);
    records.sort_by_key(|record| (record.group_id, record.sample_index));
    records
}

fn components(record: &Trajectory) -> BTreeMap<&str, f64> {
    record.reward_components.iter().map(|(name, value)| (name.as_str(), *value)).collect()
}

fn scores(finished: &Finished) -> Value {
    finished.summary().unwrap()["scores"].clone()
}

fn close(one: &Value, other: f64) -> bool {
    one.as_f64().is_some_and(|one| (one - other).abs() < 1e-9)
}

#[test]
fn a_function_and_a_server_judge_together() {
    let _watchdog = Watchdog::start("several scorers", BOUND);
    let (place, (_server, port)) = (Place::new(), score_server(&[]));
    let words = format!(
        "--episodes 60 --scorer parts=rewards:parts --scorer \
         steps=http://127.0.0.1:{port}/steps,weight=0.5,retries=3 --flight-recorder {}",
        place.path("flight").display()
    );
    let (finished, records) = place.play(&words);
    assert_eq!(finished.code(), Some(0), "{finished:?}");
    check_account(&finished, &records, 60);
    for record in &records {
        let steps = record.steps.len() as f64;
        assert_eq!(record.reward, Some(99.0 + 0.5 * steps));
        let expected = [
            ("parts", 99.0),
            ("parts/half", 0.5),
            ("parts/other", steps),
            ("parts/steps", steps),
            ("steps", steps),
        ];
        assert_eq!(components(record), BTreeMap::from(expected));
    }
    let steps = records.iter().map(|record| record.steps.len() as f64).sum::<f64>() / 60.0;
    let told = scores(&finished);
    assert_eq!((&told["episodes"], &told["missing"]), (&json!(60), &json!(0)), "{told}");
    assert!(close(&told["reward_mean"], 99.0 + 0.5 * steps), "{told}");
    assert_eq!(told["components"]["parts/half"], json!({"episodes": 60, "mean": 0.5}));
    assert!(close(&told["components"]["steps"]["mean"], steps), "{told}");
    let replayed =
        EnvmillCommand::new(crate::rig::ENVMILL).arg("replay-core").arg(place.path("flight"));
    let replayed = replayed.run().unwrap();
    assert_eq!(replayed.code(), Some(0), "scores are inputs like others: {replayed:?}");
    let log = fs::read_to_string(place.out().join("scorers/parts.log")).unwrap();
    assert!(log.contains("printing is no way to answer\nnor is this"), "{log}");
}

#[test]
fn a_file_says_more_and_what_is_missing_is_not_zero() {
    let _watchdog = Watchdog::start("a file of scorers", BOUND);
    let place = Place::new();
    let tables = "[scorers.parts]\npython = \"rewards:parts\"\nweights = { steps = 2, half = -1 }\n\
                  python-path = [\".\"]\n";
    fs::write(place.path("s.toml"), tables).unwrap();
    let file = place.path("s.toml");
    let words = format!("--episodes 20 --scorers {}", file.display());
    let (finished, records) = place.play(&words);
    assert_eq!(finished.code(), Some(0), "{finished:?}");
    for record in &records {
        let steps = record.steps.len() as f64;
        assert_eq!(record.reward, Some(2.0 * steps - 0.5));
        let other = components(record).remove("other");
        assert_eq!(other, Some(steps), "of one alone they are called as it calls them");
    }

    let (finished, records) =
        place.play("--overwrite --episodes 10 --scorer strange=rewards:strange");
    assert_eq!(finished.code(), Some(3), "{finished:?}");
    check_account(&finished, &records, 10);
    for (number, record) in records.iter().enumerate() {
        match number {
            1..=4 | 7 | 8 => {
                let End::Failed(failure) = &record.end else { panic!("{number}: {record:?}") };
                assert_eq!((failure.kind.name().as_str(), record.reward), ("scorer", None));
            }
            9 => assert_eq!(record.reward, Some(7.0)),
            _ => assert_eq!(record.reward, None, "{number}"),
        }
    }
    let told = scores(&finished);
    assert_eq!((&told["episodes"], &told["missing"]), (&json!(4), &json!(3)), "{told}");
    assert_eq!(told["components"], json!({"a": {"episodes": 1, "mean": 1.0}}));
    assert_eq!(finished.summary().unwrap()["failures"], json!({"scorer": 6}));
}

#[test]
fn groups_are_seen_whole_beside_one_that_sees_each_for_itself() {
    let _watchdog = Watchdog::start("scorers of groups", BOUND);
    let place = Place::new();
    let (finished, records) = place.play(
        "--groups 30 --samples 8 --sessions 3 --scorer \
         advantage=rewards:advantage,group=true,in-flight-max=2 --scorer later=rewards:later,weight=0",
    );
    assert_eq!(finished.code(), Some(0), "{finished:?}");
    check_account(&finished, &records, 240);
    for group in records.chunks(8) {
        let sum: f64 = group.iter().map(|record| record.reward.unwrap()).sum();
        assert!(sum.abs() < 1e-9, "{sum}");
        for record in group {
            let parts = components(record);
            assert_eq!(parts.get("advantage/seen"), Some(&8.0));
            assert!(parts.contains_key("later"), "{parts:?}");
        }
    }
    let rounds = finished.summary().unwrap()["groups"]["recorded"].clone();
    assert_eq!(rounds, 30);
}

/// A run of 30 episodes all of which are with a scorer that does not answer.
fn waiting(place: &Place, more: &str) -> envmill_testing::Running {
    let words =
        "--episodes 40 --sessions 4 --scorer waits=rewards:waits,batch-max=4,in-flight-max=30";
    let mut running = place.command(words).args(more.split_whitespace()).start().unwrap();
    let called = place.path("called");
    wait_until("episodes are with the scorer", BOUND, || {
        assert!(running.is_running(), "it ended before");
        called.exists()
    });
    running
}

#[test]
fn what_waits_for_its_score_when_a_run_is_cut_has_one_record_without_a_reward() {
    let _watchdog = Watchdog::start("cut while scoring", BOUND);
    let place = Place::new();
    let mut running = waiting(&place, "");
    let pid: u32 = fs::read_to_string(place.path("called")).unwrap().parse().unwrap();
    // Two that come at once may be one.
    wait_until("it is cut", BOUND, || {
        running.interrupt();
        !running.is_running()
    });
    let finished = running.wait();
    assert_eq!(finished.code(), Some(130), "{finished:?}");
    let records = in_order(&place.out());
    check_account(&finished, &records, 40);
    for record in &records {
        assert!(matches!(record.end, End::Cancelled(_)), "{:?}", record.end);
        assert_eq!((record.reward, record.reward_components.len()), (None, 0));
    }
    assert!(records.iter().any(|record| !record.steps.is_empty()), "some were played");
    assert_eq!(scores(&finished)["episodes"], 0);
    let process = PathBuf::from(format!("/proc/{pid}"));
    wait_until("the scorer has gone", BOUND, || !process.exists());
}

#[test]
fn what_is_with_the_scorer_comes_to_its_score_when_a_run_is_to_end() {
    let _watchdog = Watchdog::start("drained while scoring", BOUND);
    let place = Place::new();
    let running = waiting(&place, "");
    running.interrupt();
    let_pass(std::time::Duration::from_millis(200));
    fs::write(place.path("go"), "").unwrap();
    let finished = running.wait();
    assert_eq!(finished.code(), Some(0), "{finished:?}");
    let records = in_order(&place.out());
    check_account(&finished, &records, 40);
    let scored = records.iter().filter(|record| record.reward == Some(1.0)).count();
    assert!(scored >= 1, "{scored}");
    for record in &records {
        let is_scored = matches!(record.end, End::Completed { .. } | End::Truncated(_));
        assert_eq!(record.reward, is_scored.then_some(1.0), "{:?}", record.end);
    }
}

#[test]
fn a_killed_run_goes_on_with_the_scorers_that_it_had() {
    let _watchdog = Watchdog::start("killed while scoring", BOUND);
    let place = Place::new();
    let mut running = waiting(&place, "--resume");
    running.kill();
    drop(running);
    fs::write(place.path("go"), "").unwrap();
    let words = "--resume --episodes 40 --scorer";
    for (scorer, expected) in [
        ("waits=rewards:waits,weight=2", "`scorers` was"),
        ("others=rewards:waits", "`scorers` was"),
    ] {
        let (finished, _) = place.play(&format!("{words} {scorer}"));
        assert_eq!(finished.code(), Some(2), "{finished:?}");
        assert!(finished.stderr.contains(expected), "{}", finished.stderr);
    }
    let without = place.command("--resume --episodes 40").run().unwrap();
    assert!(without.stderr.contains("`scorers` was"), "{without:?}");
    // How it is asked may be said anew.
    let (finished, records) =
        place.play(&format!("{words} waits=rewards:waits,batch-max=7,timeout-ms=100000"));
    assert_eq!(finished.code(), Some(0), "{finished:?}");
    let rewards: Vec<_> = records.iter().map(|record| record.reward).collect();
    assert_eq!(rewards, [Some(1.0); 40]);
    let ids: std::collections::BTreeSet<_> = records.iter().map(|it| &it.trajectory_id).collect();
    assert_eq!(ids.len(), 40);
    let summary = finished.summary().unwrap();
    let before = summary["episodes"]["recorded_before"].as_u64().unwrap();
    assert_eq!(summary["scores"]["episodes"], 40 - before, "of this run");
}

#[test]
fn what_cannot_judge_is_said_before_anything_is_played() {
    let _watchdog = Watchdog::start("scorers that do not start", BOUND);
    let place = Place::new();
    for (scorer, expected) in [
        ("a=nowhere:f", "nowhere:f does not start: ModuleNotFoundError"),
        ("a=rewards:number", "is a int, which cannot be called"),
        ("a=rewards:advantage,group=true", "--scorer: `a` scores whole groups: give --samples"),
        ("rewards:score", "write NAME=TARGET"),
    ] {
        let finished = place.command("--episodes 5 --scorer").arg(scorer).run().unwrap();
        assert_eq!(finished.code(), Some(2), "{finished:?}");
        assert!(finished.stderr.contains(expected), "{}", finished.stderr);
        assert!(!place.out().join("trajectories.jsonl").exists());
    }
}

#[test]
fn people_see_who_waits_and_what_it_came_to() {
    let _watchdog = Watchdog::start("scores for people", BOUND);
    let place = Place::new();
    let running = EnvmillCommand::new(crate::rig::ENVMILL)
        .args("run --env native:cartpole --episodes 8 --max-steps 6 --python".split(' '))
        .arg(python().unwrap())
        .arg("--python-path")
        .arg(place.0.path())
        .args(["--scorer", "waits=rewards:waits", "--out"])
        .arg(place.out())
        .start()
        .unwrap();
    let called = place.path("called");
    wait_until("episodes are with the scorer", BOUND, || called.exists());
    // Where there is no terminal, a line is written every five seconds.
    let_pass(std::time::Duration::from_secs(6));
    fs::write(place.path("go"), "").unwrap();
    let finished = running.wait();
    assert_eq!(finished.code(), Some(0), "{finished:?}");
    assert!(finished.stderr.contains("8 wait for their score"), "{}", finished.stderr);
    let line = "scores     8 episodes; reward 1.0000 on average";
    assert!(finished.stdout.contains(line), "{}", finished.stdout);
}
