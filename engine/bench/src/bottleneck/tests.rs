//! Verdicts over points that were made up, and over some that were recorded.

use super::*;
use crate::{
    report::{Loop, Traffic, Usage},
    sweep::tests::{fast, refusing},
};

const ABOUT: About = About { kind: Kind::Url, threads: 4, is_local: true, storm: false };

/// A point with a throughput, a median latency, and cores that the server and envmill use.
fn at(sessions: u32, steps_per_s: f64, p50: f64, server: f64, engine: f64) -> Point {
    let mut point = fast(sessions, steps_per_s);
    point.latency_ms.step.p50 = p50;
    point.share_of_time.step = 1.0;
    let usage = |cores: f64| Usage {
        cores,
        busiest_process: cores,
        busiest_thread: cores.min(1.0) * 0.6,
        processes: 1,
        threads: 9,
        ..Usage::default()
    };
    point.server = Some(usage(server));
    point.engine = usage(engine);
    point
}

fn what(points: &[Point], about: About) -> String {
    let found = bottleneck(points, about);
    assert!(!found.summary.is_empty() && !found.remedy.is_empty());
    found.what
}

#[test]
fn a_python_server_of_one_process_is_held_by_its_interpreter() {
    // Recorded from the stock server under uvicorn, with one worker, whose steps do nothing.
    let points = [
        at(1, 2100.0, 0.23, 0.54, 0.11),
        at(2, 4606.0, 0.24, 0.56, 0.08),
        at(4, 3940.0, 0.47, 0.53, 0.11),
        at(8, 7988.0, 0.82, 0.80, 0.11),
        at(16, 7427.0, 1.69, 0.89, 0.16),
        at(32, 7273.0, 3.54, 0.93, 0.16),
    ];
    assert_eq!(what(&points, ABOUT), "server_thread");
}

#[test]
fn several_busy_processes_are_the_servers_cpu() {
    let mut points =
        [at(1, 900.0, 1.0, 0.7, 0.05), at(8, 5000.0, 2.0, 3.6, 0.2), at(16, 5100.0, 4.0, 3.7, 0.2)];
    assert_eq!(what(&points, ABOUT), "server_cpu");
    for point in &mut points {
        point.engine.cores = 1.6;
    }
    points[1].server = Some(Usage { cores: 2.3, ..points[1].server.clone().unwrap() });
    assert_eq!(what(&points, ABOUT), "machine");
}

#[test]
fn a_busy_client_says_so() {
    let mut points = [
        at(1, 9000.0, 0.1, 0.2, 0.5),
        at(8, 50_000.0, 0.2, 0.5, 1.0),
        at(16, 50_000.0, 0.4, 0.5, 1.0),
    ];
    for point in &mut points[1..] {
        point.engine.busiest_thread = 0.97;
    }
    assert_eq!(what(&points, ABOUT), "client");
    let native = bottleneck(&points, About { kind: Kind::Native, ..ABOUT });
    assert!(native.what == "client" && native.summary.contains("runs in this process"));
}

#[test]
fn sleeping_environments_are_their_own_time() {
    let points = [
        at(1, 20.0, 50.0, 0.01, 0.01),
        at(2, 40.0, 50.1, 0.02, 0.01),
        at(4, 79.0, 50.4, 0.04, 0.02),
    ];
    assert_eq!(what(&points, ABOUT), "environment_time");
}

#[test]
fn a_lock_is_seen_by_what_is_idle() {
    let points = [
        at(1, 100.0, 10.0, 0.02, 0.01),
        at(2, 100.0, 20.0, 0.02, 0.01),
        at(4, 100.0, 40.0, 0.02, 0.01),
    ];
    let found = bottleneck(&points, ABOUT);
    assert_eq!(found.what, "environment_time");
    assert!(found.summary.contains("about 1.0 steps at a time"), "{}", found.summary);
}

#[test]
fn a_cap_holds_back_what_still_grew() {
    let mut capped = refusing(4, 2);
    capped.steps_per_s = 40.0;
    capped.latency_ms.step.p50 = 50.0;
    let points = [at(1, 20.0, 50.0, 0.01, 0.01), at(2, 40.0, 50.0, 0.02, 0.01), capped];
    assert_eq!(what(&points, ABOUT), "session_cap");
}

#[test]
fn other_work_is_told_from_the_targets() {
    let mut points =
        [at(1, 900.0, 1.0, 0.5, 0.1), at(2, 950.0, 2.0, 0.6, 0.1), at(4, 940.0, 4.0, 0.6, 0.1)];
    for point in &mut points {
        point.machine_cores = Some(3.9);
    }
    let found = bottleneck(&points, ABOUT);
    assert!(found.what == "machine" && found.summary.contains("Other work"), "{found:?}");
}

#[test]
fn an_open_loop_that_is_kept_up_with_has_no_bottleneck() {
    let mut point = at(8, 100.0, 5.0, 0.5, 0.1);
    point.pace = Loop::Open { steps_per_s: 100.0 };
    let found = bottleneck(&[point.clone()], ABOUT);
    assert!(found.what == "none" && found.summary.contains("keeps up"), "{found:?}");
    point.requests.not_sent = 50;
    assert!(!bottleneck(&[point], ABOUT).summary.contains("keeps up"));
}

#[test]
fn far_targets_are_told_by_their_traffic_or_not_at_all() {
    let far = About { is_local: false, ..ABOUT };
    let mut points =
        [at(1, 100.0, 9.0, 0.0, 0.1), at(2, 110.0, 18.0, 0.0, 0.1), at(4, 111.0, 36.0, 0.0, 0.1)];
    for point in &mut points {
        point.server = None;
    }
    assert_eq!(what(&points, far), "unknown");
    for point in &mut points {
        point.traffic = Some(Traffic { bytes_in: 120_000_000, bytes_out: 1, bytes_per_step: 1.0 });
    }
    assert_eq!(what(&points, far), "network");
}

#[test]
fn storms_and_nothing_at_all_are_told() {
    let mut stormy = at(64, 100.0, 1.0, 0.5, 0.1);
    (stormy.sessions.failed, stormy.sessions.success) = (32, 0.5);
    stormy.sessions.failures.insert("deadline_connect".into(), 32);
    assert_eq!(what(&[stormy.clone()], About { storm: true, ..ABOUT }), "connect_storm");
    assert_ne!(what(&[stormy], ABOUT), "connect_storm");
    assert_eq!(what(&[], ABOUT), "unknown");
    let growing = [fast(1, 10.0), fast(2, 20.0), fast(4, 40.0)];
    assert_eq!(what(&growing, About { kind: Kind::Native, ..ABOUT }), "environment_time");
}
