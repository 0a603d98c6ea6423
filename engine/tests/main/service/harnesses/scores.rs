//! What episodes of harnesses were worth, by the service's scorers.

use std::fs;

use envmill_client::wire;
use envmill_testing::{Watchdog, python};
use serde_json::json;
use tempfile::TempDir;

use super::{Rig, by_task, end, job, message};
use crate::rig::BOUND;

/// What these are shown is what the record says, in which the step's action is what the program left.
const REWARDS: &str = r#"
def judged(episodes):
    scores = []
    for it in episodes:
        [step] = it["steps"]
        left, messages = step["action"], it["messages"]
        assert it["reward"] == left.get("reward") and it["environment"] == "agent"
        calls = sum(message["role"] == "assistant" for message in messages)
        assert calls == len(it["generations"])
        if it["task_id"] == "line":
            scores.append({"error": "lines are not judged"})
            continue
        scores.append({"reward": 10 * calls + (it["reward"] or 0), "components": {"calls": calls}})
    return scores

def against_the_others(episodes):
    assert len({it["group_id"] for it in episodes}) == 1
    known = [it["reward"] for it in episodes if it["reward"] is not None]
    mean = sum(known) / max(len(known), 1)
    return [
        {"reward": (it["reward"] or 0) - mean, "components": {"seen": len(episodes)}} for it in episodes
    ]
"#;

/// A service with a harness and these scorers.
fn rig(directory: &TempDir) -> Rig {
    fs::write(directory.path().join("rewards.py"), REWARDS).unwrap();
    let keys =
        format!("interpreter = {:?}\npython-path = [{:?}]", python().unwrap(), directory.path());
    Rig::start(&format!(
        "deadline-s = 40\n\
         [scorers.judged]\npython = \"rewards:judged\"\n{keys}\n\
         [scorers.against]\npython = \"rewards:against_the_others\"\ngroup = true\n{keys}"
    ))
}

fn components(trajectory: &wire::Trajectory) -> Vec<(&str, f64)> {
    trajectory.reward_components.iter().map(|it| (it.name.as_str(), it.value)).collect()
}

#[test]
fn a_function_says_what_programs_were_worth() {
    let _watchdog = Watchdog::start("a scorer of a harness", BOUND);
    let directory = TempDir::new().unwrap();
    let rig = rig(&directory);
    let kinds = ["solve", "silent", "line", "fails", "hangs"];
    let tasks: Vec<_> = kinds.iter().map(|it| (*it, json!({"worth": 0.5}))).collect();
    let scored = wire::SubmitJob { scorer: "judged".into(), ..job("scored", &tasks) };
    let played = by_task(rig.play(scored));
    // One that said nothing is no less worth judging, and neither is one whose time was over.
    for (kind, ended, reward, calls) in [
        ("solve", "completed", 20.5, 2.0),
        ("silent", "completed", 10.0, 1.0),
        ("hangs", "truncated", 10.25, 1.0),
    ] {
        let it = &played[kind];
        assert_eq!((end(it).0, it.reward), (ended, Some(reward)), "{kind}: {}", message(it));
        assert_eq!(components(it), [("calls", calls)], "{kind}");
    }
    let refused = &played["line"];
    assert_eq!((end(refused), refused.reward), (("failed", "scorer"), None));
    assert!(message(refused).contains("lines are not judged"), "{}", message(refused));
    assert_eq!(refused.generations.len(), 1, "what was played is there");
    // What has failed is not shown to anybody.
    let failed = &played["fails"];
    assert_eq!((end(failed), failed.reward), (("failed", "environment"), None));
    assert!(components(failed).is_empty());
}

#[test]
fn a_function_of_groups_sees_all_programs_of_a_task() {
    let _watchdog = Watchdog::start("a group scorer of a harness", BOUND);
    let directory = TempDir::new().unwrap();
    let rig = rig(&directory);
    let grouped = |name: &str, what: &str, limits| wire::SubmitJob {
        episodes: 0,
        groups: 2,
        group_rules: Some(wire::GroupRules { samples: 3, ..wire::GroupRules::default() }),
        scorer: "against".into(),
        limits,
        ..job(name, &[(what, json!({"worth": 1, "more": 0.5}))])
    };
    let played = rig.play(grouped("whole", "solve", None));
    assert_eq!(played.len(), 6);
    for group in played.chunks(3) {
        let rewards: Vec<_> = group.iter().map(|it| it.reward.unwrap()).collect();
        assert_eq!(rewards, [-0.5, 0.0, 0.5], "each against the others of its group");
        assert!(group.iter().all(|it| components(it) == [("seen", 3.0)]));
    }
    // One after the other: the first program fails, and is none of those that are seen.
    let limits = Some(wire::Limits { sessions: 1, ..wire::Limits::default() });
    let played = rig.play(grouped("torn", "flaky", limits));
    let ends: Vec<_> = played.iter().map(|it| end(it).0).collect();
    assert_eq!(ends.iter().filter(|it| **it == "failed").count(), 1, "{ends:?}");
    for group in played.chunks(3) {
        let used: Vec<_> = group.iter().filter(|it| end(it).0 == "completed").collect();
        let seen = used.len() as f64;
        assert!(used.iter().all(|it| components(it) == [("seen", seen)]), "{used:?}");
    }
}
