//! Every example runs and says what it promises.

#![allow(clippy::unwrap_used)]

use std::{process::Command, time::Duration};

use envmill_testing::{PythonServer, Watchdog};

fn output(program: &str, arguments: &[&str]) -> String {
    let _watchdog = Watchdog::start(program, Duration::from_secs(300));
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_job_is_played() {
    let server = PythonServer::of("choice_env").unwrap();
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("run");
    let told = output(env!("CARGO_BIN_EXE_play-a-job"), &[&server.url(), out.to_str().unwrap()]);
    assert!(told.contains("40 episodes, 400 steps\n"), "{told}");
}

#[test]
fn a_policy_of_ones_own_balances_the_pole() {
    let told = output(env!("CARGO_BIN_EXE_own-policy"), &[]);
    let mean: f64 = told.trim().rsplit(' ').next().unwrap().parse().unwrap();
    // Random pushes last for 22 steps; 500 is the end.
    assert!(told.starts_with("200 episodes") && mean > 400.0, "{told}");
}

#[test]
fn the_service_runs_within_another_program() {
    let told = output(env!("CARGO_BIN_EXE_embed"), &[]);
    assert!(told.ends_with("50 groups\n") && told.contains("group 49: ["), "{told}");
}

#[test]
fn a_loop_of_ones_own_plays_every_episode() {
    let told = output(env!("CARGO_BIN_EXE_own-loop"), &[]);
    assert!(told.starts_with("1000 episodes, 5000 steps\n"), "{told}");
}
