//! Recordings that are played again, and compared.

use envmill_testing::Watchdog;
use serde_json::{Value, json};

use super::{inspect, play, told};
use crate::rig::{BOUND, server_with};

/// The counts of a replay.
fn counts(replay: &Value) -> [u64; 4] {
    ["matched", "differed", "not_played", "skipped"].map(|key| replay[key].as_u64().unwrap())
}

#[test]
fn drift_is_found_and_its_cause_is_told() {
    let _watchdog = Watchdog::start("drift", BOUND);
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("run");
    {
        let server = server_with("drift_env", &[]);
        play(&out, &format!("--env {} --episodes 10 --sessions 4 --seed 11", server.url()));
        let same = told(&out, &format!("--replay {}", server.url()), 0);
        assert_eq!(counts(&same), [10, 0, 0, 0], "{same}");
        // Some of them, in another order: each is reset as it was recorded.
        let words = format!("--episode 3,5-7 --sort reward --replay {}", server.url());
        assert_eq!(counts(&told(&out, &words, 0)), [4, 0, 0, 0]);
        let text = inspect(&out, &format!("--replay {}", server.url()));
        assert!(text.stdout.contains("10 matched, 0 differed"), "{text:?}");
    }
    for (drift, cause, what, step, pointer) in [
        ("seed", "seed_dropped", "reset", json!(null), json!("/at")),
        ("step", "nondeterministic", "observation", json!(1), json!("/at")),
        ("reward", "reward_only", "reward", json!(0), json!("")),
        ("raise", "fails", "length", json!(2), json!("")),
        ("schema", "environment_changed", "reset", json!(null), json!("/height")),
    ] {
        let server = server_with("drift_env", &[("DRIFT", drift)]);
        let replay = told(&out, &format!("--replay {}", server.url()), 1);
        assert_eq!(counts(&replay), [0, 10, 0, 0], "{drift}: {replay}");
        assert_eq!(replay["causes"], json!({ cause: 10 }), "{drift}");
        let first = &replay["differences"][0];
        let found = (&first["what"], &first["step"], &first["pointer"]);
        assert_eq!(found, (&json!(what), &step, &pointer), "{drift}: {first}");
        if drift == "seed" {
            let ignored = told(&out, &format!("--ignore /at --replay {}", server.url()), 1);
            // The rewards follow from where it began.
            assert_eq!(ignored["causes"], json!({"reward_only": 10}));
            let text = inspect(&out, &format!("--replay {}", server.url()));
            assert_eq!(text.code(), Some(1));
            assert!(text.stdout.contains("first observation at /at"), "{text:?}");
        }
    }
    // Where nothing answers nothing is known.
    let words = format!(
        "--no-server-timeout-ms 500 --replay http://127.0.0.1:{}",
        envmill_testing::free_port().unwrap()
    );
    let refused = inspect(&out, &words);
    assert!(matches!(refused.code(), Some(2 | 3)), "{refused:?}");
}

#[test]
fn what_was_cut_or_filtered_is_played_as_far_as_it_went() {
    let _watchdog = Watchdog::start("replays of cuts", BOUND);
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("run");
    // Every group is alike, so that all are filtered.
    play(
        &out,
        "--env native:cartpole --groups 3 --samples 2 --max-steps 4 --group-filter zero-variance --seed 2",
    );
    let replay = told(&out, "--replay native:cartpole", 0);
    assert_eq!(counts(&replay), [6, 0, 0, 0], "{replay}");
    let other = told(&out, "--replay native:frozenlake --limit 2", 1);
    assert_eq!(other["differed"], 2, "{other}");

    let failed = directory.path().join("failed");
    let job = "--env native:synthetic?fail_rate=1 --episodes 3 --attempts 1";
    let finished = crate::plain::envmill(&failed).args(job.split(' ')).run().unwrap();
    assert_eq!(finished.code(), Some(3), "{finished:?}");
    let refused = inspect(&failed, "--replay native:synthetic");
    assert!(refused.code() == Some(2) && refused.stderr.contains("3 failed"), "{refused:?}");
}

#[test]
fn two_recordings_are_compared_episode_by_episode() {
    let _watchdog = Watchdog::start("diffs", BOUND);
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    play(&at("a"), "--env native:cartpole --episodes 8 --seed 1");
    play(&at("b"), "--env native:cartpole --episodes 8 --seed 1 --format parquet");
    play(&at("c"), "--env native:cartpole --episodes 10 --seed 2");
    let diff = |one: &str, other: &str, code| {
        told(at(one), &format!("--diff {}", at(other).display()), code)
    };
    assert_eq!(diff("a", "b", 0)["matched"], 8);
    let other = diff("a", "c", 1);
    let counts =
        ["matched", "differed", "missing", "added"].map(|key| other[key].as_u64().unwrap());
    assert_eq!(counts, [0, 8, 0, 2], "{other}");
    assert_eq!(other["differences"][0]["what"], "reset");
}

#[test]
fn an_interrupt_ends_a_replay_with_what_is_known() {
    let _watchdog = Watchdog::start("interrupted replay", BOUND);
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("run");
    play(&out, "--env native:synthetic?step_ms=0&episode_steps=20 --episodes 400 --max-steps 200");
    let running = envmill_testing::EnvmillCommand::new(crate::rig::ENVMILL)
        .arg("inspect")
        .arg(&out)
        .args(["--sessions", "1", "--replay", "native:synthetic?step_ms=20&episode_steps=20"])
        .start()
        .unwrap();
    // Whether it has begun by then or not, it ends in the same way.
    crate::rig::let_pass(std::time::Duration::from_millis(1500));
    running.interrupt();
    let ended = running.wait();
    assert_eq!(ended.code(), Some(130), "{ended:?}");
    assert!(ended.stdout.contains("could not be played"), "{ended:?}");
}
