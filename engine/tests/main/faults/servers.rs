//! Servers that die, stop in their tracks and come back.

use std::{collections::BTreeSet, time::Duration};

use envmill_testing::{PythonServer, wait_until};

use crate::rig::{BOUND, Job, let_pass, own_bench_server};

/// Three servers and a job on all of them, long enough to be struck in the middle.
fn three(name: &str) -> ([PythonServer; 3], Job) {
    let servers = [(); 3].map(|()| own_bench_server());
    let job = servers.iter().fold(Job::new(name), |job, server| job.args(["--env", &server.url()]));
    let job = job
        .words("--episodes 400 --sessions 24 --attempts 4 --step-timeout-ms 2000")
        .args(["--policy", r#"constant:{"sleep_s":0.01,"done_at":10}"#]);
    (servers, job)
}

#[test]
fn one_of_three_servers_is_killed() {
    let (mut servers, job) = three("kill -9");
    let mut playing = job.start();
    playing.wait_for_records(40);
    servers[1].kill();
    let played = playing.end();
    played.all_played();
    played.steps_in_order();
    assert!(played.retried() > 0, "it was killed in the middle of episodes");
    let failed: BTreeSet<_> = played
        .records
        .iter()
        .flat_map(|record| &record.attempts)
        .filter(|attempt| !attempt.cause.is_empty())
        .map(|attempt| attempt.server.as_str())
        .collect();
    assert_eq!(failed.len(), 1, "{failed:?}");
}

#[test]
fn a_killed_server_that_comes_back_is_played_again() {
    let mut server = own_bench_server();
    let mut playing = Job::on("restart", &server.url())
        .words("--episodes 300 --sessions 8 --attempts 4")
        .args(["--policy", r#"constant:{"sleep_s":0.01,"done_at":10}"#])
        .start();
    playing.wait_for_records(20);
    server.restart().unwrap();
    let played = playing.end();
    played.all_played();
    played.steps_in_order();
    assert!(played.retried() > 0);
}

#[test]
fn when_every_server_is_gone_the_rest_is_told_as_failed() {
    let mut server = own_bench_server();
    let mut playing = Job::on("all gone", &server.url())
        .words("--episodes 5000 --sessions 8 --no-server-timeout-ms 1500")
        .args(["--policy", r#"constant:{"sleep_s":0.01,"done_at":10}"#])
        .start();
    playing.wait_for_records(20);
    server.kill();
    let played = playing.end();
    assert_eq!(played.code(), Some(3));
    assert!(played.episodes("completed") >= 20);
    let failures = played.failures();
    assert!(failures["no_server"] > 4000, "{failures:?}");
}

#[test]
fn twenty_seconds_of_silence_within_the_deadline_cost_no_attempt() {
    const SILENCE: Duration = Duration::from_secs(20);
    let server = own_bench_server();
    let mut playing = Job::on("twenty seconds", &server.url())
        .words("--episodes 100 --sessions 8")
        .args(["--policy", r#"constant:{"sleep_s":0.01,"done_at":10}"#])
        .start();
    playing.wait_for_records(10);
    server.stop();
    let_pass(SILENCE);
    server.cont();
    let played = playing.end();
    played.all_played();
    played.steps_in_order();
    assert_eq!(played.retried(), 0);
    // All of them were stepping when it stopped, or were about to.
    assert!(played.number("/latency_ms/step/max") > 19_000.0, "{}", played.summary);
}

#[test]
fn a_stop_beyond_the_deadline_moves_its_episodes_elsewhere() {
    let (servers, job) = three("long stop");
    let mut playing = job.words("--first-reset-timeout-ms 3000 --reset-timeout-ms 2000").start();
    playing.wait_for_records(40);
    servers[0].stop();
    let played = playing.end();
    servers[0].cont();
    played.all_played();
    played.steps_in_order();
    assert!(played.attempt_causes().contains("deadline_step"), "{:?}", played.attempt_causes());
}

#[test]
fn a_server_that_stops_for_good_is_told() {
    let server = own_bench_server();
    let mut playing = Job::on("stopped for good", &server.url())
        .words("--episodes 60 --sessions 4 --attempts 2 --step-timeout-ms 500")
        .words("--connect-timeout-ms 500 --first-reset-timeout-ms 500 --reset-timeout-ms 500")
        .words("--no-server-timeout-ms 2500")
        .args(["--policy", r#"constant:{"sleep_s":0.02,"done_at":20}"#])
        .start();
    playing.wait_for_records(2);
    server.stop();
    let played = playing.end();
    server.cont();
    assert_eq!(played.code(), Some(3));
    assert!(played.failures().contains_key("no_server"), "{:?}", played.failures());
}

#[test]
fn a_server_that_is_asked_to_end_costs_no_episode_where_another_is_left() {
    let (mut servers, job) = three("SIGTERM");
    let mut playing = job.start();
    playing.wait_for_records(40);
    servers[2].terminate();
    wait_until("it has ended", BOUND, || !servers[2].is_running());
    let played = playing.end();
    played.all_played();
    assert!(played.retried() > 0);
    // uvicorn says `1012 service restart` where it finds the time.
    for cause in played.attempt_causes() {
        assert!(["closed_1012", "disconnected", "environment"].contains(&cause), "{cause}");
    }
}
