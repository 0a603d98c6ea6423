//! What happens to frames and connections in mid-episode.

use std::time::Duration;

use envmill_testing::{Effect, Fault, FaultProxy, FrameEffect, Frames, Plan, Point};

use crate::rig::{Job, Played, bench_server};

/// How many connections have a fault where some have one.
const STRUCK_MAX: usize = 8;

/// Deadlines that nothing reaches by mere slowness of the machine.
const PATIENT: &str = "--step-timeout-ms 10000 --reset-timeout-ms 10000";

/// Deadlines for answers that never come, or far too late.
const HASTY: &str = "--step-timeout-ms 800 --first-reset-timeout-ms 1500 --reset-timeout-ms 1500";

/// Plays 24 episodes of 8 steps through a proxy with this plan.
fn play(name: &str, plan: Plan, attempts: usize, deadlines: &str) -> (Played, FaultProxy) {
    let proxy = FaultProxy::start(bench_server().address()).unwrap();
    proxy.set_plan(plan);
    let played = Job::on(name, &proxy.url())
        .words("--episodes 24 --sessions 6")
        .args(["--attempts", &attempts.to_string()])
        .words(deadlines)
        .args(["--policy", r#"constant:{"done_at":8}"#])
        .play();
    assert!(proxy.counts().struck > 0, "{name}: the fault never struck");
    (played, proxy)
}

/// What plays every episode in spite of `fault` on some connections: one attempt may meet all.
fn play_past(name: &str, fault: &Fault, deadlines: &str) -> Played {
    // The run's first questions, over HTTP, are let pass: what befalls them ends it before any work.
    let mut script = vec![Fault::Pass; 2];
    script.resize(2 + STRUCK_MAX, fault.clone());
    let plan = Plan::Script(script);
    play(name, plan, STRUCK_MAX + 1, deadlines).0
}

/// Some connections have this fault and their successors have none: every episode is played, by a
/// later attempt if need be, and `cause` stands in the record of the earlier ones.
fn passes(name: &str, fault: &Fault, cause: &str) {
    let deadlines = if cause.starts_with("deadline") { HASTY } else { PATIENT };
    let played = play_past(name, fault, deadlines);
    played.all_played();
    played.steps_in_order();
    assert_eq!(played.episodes("completed"), 24, "{name}");
    assert!(played.retried() > 0, "{name}");
    assert_eq!(played.attempt_causes().into_iter().collect::<Vec<_>>(), [cause], "{name}");
}

/// Every connection has this fault before any episode can end: all episodes fail for this cause.
fn persists(name: &str, fault: Fault, cause: &str) {
    let deadlines = if cause.starts_with("deadline") { HASTY } else { PATIENT };
    let (played, _proxy) = play(name, Plan::Always(fault), 2, deadlines);
    played.all_failed(cause);
    assert!(played.records.iter().all(|record| record.attempts.len() <= 2), "{name}");
}

/// The fault strikes in the middle of an episode, once for a while and once for good.
fn strikes(name: &str, fault: Fault, cause: &str) {
    passes(name, &fault, cause);
    persists(name, fault, cause);
}

#[test]
fn cut_connections() {
    strikes("cut", Fault::At(Point::Frame(4), Effect::Cut), "disconnected");
    strikes("half closed", Fault::At(Point::Frame(4), Effect::HalfClose), "disconnected");
    // The answer to the upgrade is about 130 bytes long.
    passes("cut at any byte", &Fault::At(Point::AnyByte(900), Effect::Cut), "disconnected");
}

#[test]
fn truncated_frames() {
    strikes("truncated", Fault::Frames(Frames::Only(4), FrameEffect::Truncate), "disconnected");
}

#[test]
fn corrupted_frames() {
    let header = Fault::Frames(Frames::Only(4), FrameEffect::CorruptHeader);
    strikes("corrupt header", header, "protocol");
    let payload = Fault::Frames(Frames::Only(4), FrameEffect::CorruptPayload);
    strikes("corrupt payload", payload, "protocol");
    strikes("garbled", Fault::At(Point::Frame(4), Effect::Garble), "protocol");
}

#[test]
fn an_answer_that_never_comes() {
    let dropped = Fault::Frames(Frames::Only(4), FrameEffect::Drop);
    passes("dropped", &dropped, "deadline_step");
}

#[test]
fn a_connection_that_carries_nothing_any_more() {
    strikes("black hole", Fault::At(Point::Frame(4), Effect::BlackHole), "deadline_step");
}

#[test]
fn a_first_answer_that_never_comes() {
    let no_reset = Fault::At(Point::Frame(0), Effect::BlackHole);
    passes("no first answer", &no_reset, "deadline_first_reset");
}

#[test]
fn late_answers_are_never_taken_for_the_next() {
    // Each late answer arrives well after its deadline, while the next attempt is being played.
    let late = Fault::Frames(Frames::Only(4), FrameEffect::Hold(Duration::from_millis(1600)));
    passes("late", &late, "deadline_step");
}

#[test]
fn slow_lines_are_no_failure() {
    let slow = Fault::Frames(Frames::From(0), FrameEffect::Hold(Duration::from_millis(20)));
    let (played, _proxy) = play("slow", Plan::Always(slow), 1, PATIENT);
    played.all_played();
    played.steps_in_order();
    let drip = Effect::Drip { bytes: 7, rest: Duration::from_millis(1) };
    let (played, _proxy) = play("drip", Plan::Always(Fault::At(Point::Frame(0), drip)), 1, PATIENT);
    played.all_played();
    played.steps_in_order();
    let pause = Effect::Pause(Duration::from_millis(700));
    let (played, _proxy) =
        play("pause", Plan::Always(Fault::At(Point::Frame(4), pause)), 1, PATIENT);
    played.all_played();
    played.steps_in_order();
}

#[test]
fn doubled_frames_end_every_episode_once() {
    // Nothing on the wire tells a doubled answer from the next one: what is checked is the account.
    let doubled = Fault::Frames(Frames::Only(4), FrameEffect::Duplicate);
    let played = play_past("doubled", &doubled, HASTY);
    assert_eq!(played.episodes("failed"), 0, "{}", played.summary);
    let (played, _proxy) = play("always doubled", Plan::Always(doubled), 2, HASTY);
    let ended = played.episodes("completed") + played.episodes("failed");
    assert_eq!(ended, 24, "{}", played.summary);
    for cause in played.failures().keys() {
        assert!(["protocol", "deadline_step"].contains(&cause.as_str()), "{}", played.summary);
    }
}

#[test]
fn huge_messages_are_refused_before_they_take_memory() {
    const MESSAGE_BYTES: u64 = 200_000_000;
    let huge = Fault::Frames(Frames::Only(4), FrameEffect::Inject { bytes: MESSAGE_BYTES });
    let (played, proxy) = play("200 MB", Plan::Always(huge), 2, PATIENT);
    played.all_failed("too_large");
    assert_eq!(proxy.counts().struck, 24);
    let peak = played.number("/rss_peak_bytes");
    assert!(peak < MESSAGE_BYTES as f64 / 2.0, "{peak} bytes for messages that are refused");
}

#[test]
fn everything_at_once() {
    let faults = vec![
        (6, Fault::Pass),
        (2, Fault::At(Point::AnyByte(3000), Effect::Cut)),
        (1, Fault::At(Point::AnyFrame(12), Effect::HalfClose)),
        (1, Fault::At(Point::AnyFrame(12), Effect::BlackHole)),
        (1, Fault::At(Point::AnyFrame(12), Effect::Garble)),
        (1, Fault::At(Point::Accept, Effect::Cut)),
        (1, Fault::Frames(Frames::Any(12), FrameEffect::Truncate)),
        (1, Fault::Frames(Frames::Any(12), FrameEffect::CorruptPayload)),
        (1, Fault::Frames(Frames::Any(12), FrameEffect::Hold(Duration::from_millis(600)))),
        (1, Fault::Frames(Frames::Any(12), FrameEffect::Inject { bytes: 100_000_000 })),
    ];
    let proxy = FaultProxy::start(bench_server().address()).unwrap();
    let mut playing = Job::on("everything", &proxy.url())
        .words("--episodes 300 --sessions 24 --attempts 6 --session-reuse 3")
        .words("--connect-timeout-ms 1000 --first-reset-timeout-ms 1500")
        .words("--step-timeout-ms 400 --reset-timeout-ms 400")
        .args(["--policy", r#"constant:{"done_at":6}"#])
        .start();
    playing.wait_for_records(3);
    proxy.set_plan(Plan::Random { seed: 11, faults });
    let played = playing.end();
    played.steps_in_order();
    assert!(played.retried() > 20, "only {} retried", played.retried());
    assert!(played.episodes("completed") > 200, "{}", played.summary);
    assert!(played.number("/rss_peak_bytes") < 200e6, "{}", played.summary);
}
