//! What is planted in a log is found, by both audits.

use std::fs;

use envmill_testing::{EnvmillCommand, Watchdog};

use super::rig::{Service, account, independent_audit};
use crate::rig::{BOUND, ENVMILL};

#[test]
fn planted_faults_are_found_by_both_audits() {
    let _watchdog = Watchdog::start("audits", BOUND);
    let mut service = Service::start("[environments.cartpole]\nenv = \"native:cartpole\"\n");
    let more = ["--max-steps", "5"];
    account(&service.trainer("cartpole", 100, &more).run().unwrap());
    service.end();
    let log = service.path("log.jsonl");
    let text = fs::read_to_string(&log).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let third = lines[2];
    assert!(third.contains("\"number\": 3"), "{third}");
    let without = |at: usize| {
        let mut lines = lines.clone();
        lines.remove(at);
        lines.join("\n") + "\n"
    };
    let with =
        |line: &str| format!("{}\n{line}\n{}\n", lines[..4].join("\n"), lines[4..].join("\n"));
    let last = |line: &str| format!("{text}{line}\n");
    let again = third.replace("\"redelivered\": false", "\"redelivered\": true");
    let other = third.split("\"digest\": \"").nth(1).unwrap().split('"').next().unwrap();
    for (what, planted) in [
        ("a loss", without(2)),
        ("a duplicate", with(third)),
        (
            "the same record under another number",
            with(&third.replace("\"number\": 3", "\"number\": 5")),
        ),
        ("another content", with(&again.replace(other, "0000000000000000"))),
        ("an acknowledged one again", last(&again)),
    ] {
        fs::write(&log, planted).unwrap();
        let ours = EnvmillCommand::new(ENVMILL)
            .args(["audit", "--store"])
            .arg(service.path("envmill-store"))
            .arg("--log")
            .arg(&log)
            .run()
            .unwrap();
        assert_eq!(ours.code(), Some(1), "{what}: {ours:?}");
        let independent = independent_audit(&log);
        assert_eq!(independent.code(), Some(1), "{what}: {independent:?}");
    }
}
