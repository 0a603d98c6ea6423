//! What a run tells: the summary's names, the text for people, and nothing else on standard output.

use std::collections::BTreeSet;

use envmill_testing::{EnvmillCommand, Watchdog};
use serde_json::Value;

use crate::rig::{BOUND, ENVMILL, Job};

/// The names in the summary that scripts rely on.
const NAMES: &str = "
    episodes.requested episodes.extra episodes.recorded_before episodes.completed
    episodes.truncated episodes.failed episodes.cancelled episodes.filtered
    steps wall_s steps_per_s cpu_s cpu_steady_us_per_step requests_in_flight_peak rss_peak_bytes
    children.cpu_s children.rss_peak_bytes sessions_peak
    latency_ms.connect.p50 latency_ms.connect.p90 latency_ms.connect.p99 latency_ms.connect.max
    latency_ms.reset.p50 latency_ms.reset.p90 latency_ms.reset.p99 latency_ms.reset.max
    latency_ms.step.p50 latency_ms.step.p90 latency_ms.step.p99 latency_ms.step.max
    failures.environment
";

/// The paths of all numbers in an object.
fn numbers(value: &Value, path: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            for (name, value) in object {
                let dot = if path.is_empty() { "" } else { "." };
                numbers(value, &format!("{path}{dot}{name}"), found);
            }
        }
        Value::Number(_) => {
            found.insert(path.to_owned());
        }
        _ => {}
    }
}

#[test]
fn the_summary_has_every_name_that_scripts_rely_on() {
    let played = Job::on("names", "native:synthetic?fail_rate=0.05&episode_steps=10")
        .words("--episodes 200 --sessions 8")
        .play();
    let mut found = BTreeSet::new();
    numbers(&played.summary, "", &mut found);
    let missing: Vec<_> = NAMES.split_whitespace().filter(|&name| !found.contains(name)).collect();
    assert!(missing.is_empty(), "{missing:?} of {}", played.summary);
    // The summary is all that standard output holds.
    assert_eq!(played.finished.stdout.lines().count(), 1, "{}", played.finished.stdout);
    for name in ["steps", "wall_s", "cpu_s", "cpu_steady_us_per_step", "requests_in_flight_peak"] {
        assert!(played.number(&format!("/{name}")) > 0.0, "{name}: {}", played.summary);
    }
}

#[test]
fn people_read_what_was_built_for_what_was_played() {
    let _watchdog = Watchdog::start("text", BOUND);
    let directory = tempfile::tempdir().unwrap();
    let finished = EnvmillCommand::new(ENVMILL)
        .args("run --env native:echo --max-steps 3 --episodes 64 --sessions 4".split(' '))
        .args("--session-reuse 8 --out".split(' '))
        .arg(directory.path().join("run"))
        .run()
        .unwrap();
    assert_eq!(finished.code(), Some(0), "{finished:?}");
    let sessions = finished.stdout.lines().find(|line| line.starts_with("sessions"));
    let words: Vec<_> = sessions.unwrap().split_whitespace().collect();
    // "8 built for 64 attempts": how many sessions depends on who was free when.
    assert_eq!(words[2..5], ["built", "for", "64"], "{finished:?}");
    assert!((8..=16).contains(&words[1].parse::<u32>().unwrap()), "{finished:?}");
    assert!(finished.stdout.contains("192 in"), "{finished:?}");
    assert!(finished.stdout.contains("trajectories.jsonl"), "{finished:?}");
}

/// Sessions built, and the most episodes that one of them played, for 48 episodes on 6 sessions.
fn built(arguments: &str) -> (u64, u32) {
    let played = Job::on(arguments, "native:echo")
        .words("--episodes 48 --sessions 6 --max-steps 2")
        .words(arguments)
        .play();
    played.all_played();
    assert_eq!(played.summary["attempts"], 48);
    let numbers = played.records.iter().map(|record| record.provenance.episode_in_session);
    (played.summary["sessions_built"].as_u64().unwrap(), 1 + numbers.max().unwrap())
}

#[test]
fn sessions_are_used_again_as_often_as_they_may() {
    assert_eq!(built("--session-reuse never"), (48, 1));
    assert_eq!(built("--production"), (48, 1));
    let (sessions, most) = built("--session-reuse 4");
    assert!((12..=18).contains(&sessions) && most == 4, "{sessions} sessions, {most} episodes");
    let (sessions, most) = built("--session-reuse unlimited");
    assert!(sessions <= 6 && most >= 8, "{sessions} sessions, {most} episodes");
}
