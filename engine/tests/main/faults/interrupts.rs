//! Ctrl-C and SIGTERM: the first drains, the second cuts, and both leave valid files.

use std::time::Duration;

use envmill_testing::{Effect, Fault, FaultProxy, Point, wait_until};

use crate::rig::{BOUND, Job, Playing, bench_server, let_pass};

fn under_way(name: &str) -> Playing {
    let mut playing = Job::on(name, &bench_server().url())
        .words("--episodes 50000 --sessions 8")
        .args(["--policy", r#"constant:{"sleep_s":0.02,"done_at":10}"#])
        .start();
    playing.wait_for_records(8);
    playing
}

fn drains(playing: Playing) {
    let played = playing.end();
    assert_eq!(played.code(), Some(0), "{}", played.finished.stderr);
    assert!(played.episodes("completed") >= 8);
    assert!(played.episodes("cancelled") > 40_000);
    // What was under way was finished, not given up.
    for record in played.records.iter().filter(|record| record.end.name() == "cancelled") {
        assert_eq!(record.end.cause(), "drained");
        assert!(record.attempts.is_empty());
    }
}

#[test]
fn the_first_ctrl_c_drains() {
    let playing = under_way("drain");
    playing.running.interrupt();
    drains(playing);
}

#[test]
fn a_termination_drains_like_ctrl_c() {
    let playing = under_way("SIGTERM");
    playing.running.terminate();
    drains(playing);
}

/// A job on one server behind a proxy that swallows everything from now on.
fn hanging(name: &str) -> (Playing, FaultProxy) {
    let proxy = FaultProxy::start(bench_server().address()).unwrap();
    let mut playing = Job::on(name, &proxy.url())
        .words("--episodes 1000 --sessions 8 --attempts 1 --step-timeout-ms 600000")
        .args(["--policy", r#"constant:{"sleep_s":0.02,"done_at":10}"#])
        .start();
    playing.wait_for_records(8);
    proxy.strike(Effect::BlackHole);
    proxy.set(Fault::At(Point::Accept, Effect::BlackHole));
    wait_until("it has struck", BOUND, || proxy.counts().struck > 0);
    (playing, proxy)
}

#[test]
fn the_second_ctrl_c_ends_what_hangs() {
    let (mut playing, _proxy) = hanging("cut");
    playing.running.interrupt();
    // The first alone leaves it waiting for its steps, which are never answered.
    let_pass(Duration::from_millis(400));
    assert!(playing.running.is_running(), "it did not wait for what is under way");
    playing.running.interrupt();
    let played = playing.end_unchecked();
    assert_eq!(played.code(), Some(130), "{}", played.finished.stderr);
    // Every line of the file was read; each episode has its record here too.
    assert_eq!(played.records.len(), 1000);
    let causes = |cause: &str| played.records.iter().filter(|r| r.end.cause() == cause).count();
    assert!(causes("cancelled") > 0 && causes("drained") > 0, "{}", played.summary);
}

#[test]
fn a_hanging_run_can_be_ended_by_its_own_deadline() {
    let proxy = FaultProxy::start(bench_server().address()).unwrap();
    proxy.set(Fault::At(Point::Frame(30), Effect::BlackHole));
    let played = Job::on("job deadline", &proxy.url())
        .words("--episodes 100 --sessions 4 --step-timeout-ms 0 --job-timeout-ms 2500")
        .args(["--policy", r#"constant:{"done_at":5}"#])
        .play();
    assert!(played.episodes("completed") > 0, "{}", played.summary);
    assert!(played.records.iter().any(|record| record.end.cause() == "job_deadline"));
}

#[test]
fn a_long_episode_is_cut_at_its_deadline_and_counts() {
    let played = Job::on("episode deadline", &bench_server().url())
        .words("--episodes 3 --sessions 3 --episode-timeout-ms 4000")
        .args(["--policy", r#"constant:{"sleep_s":0.05}"#])
        .play();
    played.all_played();
    played.steps_in_order();
    for record in &played.records {
        assert_eq!(record.end.cause(), "episode_deadline");
        assert!(!record.steps.is_empty());
    }
}
