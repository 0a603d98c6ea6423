//! Servers that answer the upgrade with something else, or not at all.

use envmill_testing::{Effect, Fault, FaultProxy, HttpAnswer, Point, wait_until};

use crate::rig::{BOUND, Job, Playing, bench_server};

/// A job that opens a session for every episode, and has played some.
fn under_way(name: &str, episodes: u32, patience_ms: u32) -> (Playing, FaultProxy) {
    let proxy = FaultProxy::start(bench_server().address()).unwrap();
    let mut playing = Job::on(name, &proxy.url())
        .words("--sessions 6 --session-reuse never --connect-timeout-ms 500")
        .args(["--no-server-timeout-ms", &patience_ms.to_string()])
        .args(["--episodes", &episodes.to_string()])
        .args(["--policy", r#"constant:{"sleep_s":0.01,"done_at":5}"#])
        .start();
    playing.wait_for_records(3);
    (playing, proxy)
}

/// Every upgrade from now on has this fault: what is left fails for this cause.
fn ends(name: &str, fault: Fault, cause: &str, words: &str) {
    let (playing, proxy) = under_way(name, 20_000, 2_000);
    proxy.set(fault);
    let played = playing.end();
    assert_eq!(played.code(), Some(3));
    let failures = played.failures();
    assert_eq!(failures.keys().collect::<Vec<_>>(), [cause], "{name}");
    let failed = played.records.iter().rfind(|record| record.end.name() == "failed").unwrap();
    assert!(format!("{:?}", failed.end).contains(words), "{name}: {:?}", failed.end);
}

/// Every upgrade has this fault for a while: no episode fails.
fn passes(name: &str, fault: Fault) {
    let (mut playing, proxy) = under_way(name, 200, 60_000);
    let before = proxy.counts().struck;
    proxy.set(fault);
    wait_until("the fault has struck", BOUND, || {
        assert!(playing.running.is_running(), "it ended before the fault struck");
        proxy.counts().struck >= before + 2
    });
    proxy.set(Fault::Pass);
    let played = playing.end();
    played.all_played();
    played.steps_in_order();
}

fn answer(status: u16) -> Fault {
    Fault::Answer(HttpAnswer::status(status))
}

const PAGE: &str = "<!doctype html><title>This Space is sleeping</title>";

#[test]
fn refusals_that_no_retry_mends_end_the_run() {
    ends("401", answer(401), "upgrade_refused_401", "401");
    ends("403", answer(403), "upgrade_refused_403", "403");
    let moved = HttpAnswer::status(301).header("Location", "https://elsewhere.example/ws");
    ends("301", Fault::Answer(moved), "upgrade_refused_301", "https://elsewhere.example");
    ends("sleeping", Fault::Answer(HttpAnswer::html(PAGE)), "not_openenv", "Space");
}

#[test]
fn refusals_for_now_are_waited_for() {
    passes("429", answer(429));
    let busy = HttpAnswer::status(503).header("Retry-After", "1");
    passes("503", Fault::Answer(busy));
}

#[test]
fn refusals_for_now_that_never_end_are_told_in_the_end() {
    let busy = HttpAnswer::status(503).header("Retry-After", "1");
    ends("503 for ever", Fault::Answer(busy), "no_server", "upgrade_refused_503");
}

#[test]
fn a_server_that_accepts_and_never_upgrades() {
    let silent = Fault::At(Point::Accept, Effect::BlackHole);
    passes("silent for a while", silent.clone());
    ends("silent for ever", silent, "no_server", "deadline_connect");
}

#[test]
fn a_server_that_accepts_and_hangs_up() {
    let cut = Fault::At(Point::Accept, Effect::Cut);
    passes("cut for a while", cut.clone());
    ends("cut for ever", cut, "no_server", "unreachable");
    passes("cut within the upgrade", Fault::At(Point::Byte(40), Effect::HalfClose));
}

/// Before any work, each of these is an error that names what was found.
#[test]
fn what_a_server_says_at_the_start_is_told_at_once() {
    let proxy = FaultProxy::start(bench_server().address()).unwrap();
    let moved = HttpAnswer::status(301).header("Location", "https://elsewhere.example/");
    for (fault, words) in [
        (answer(401), ["401", "Authorization"]),
        (answer(403), ["403", "Authorization"]),
        (answer(404), ["404", "OpenEnv"]),
        (Fault::Answer(moved), ["301", "https://elsewhere.example/"]),
        (answer(503), ["503", "try again"]),
        (Fault::Answer(HttpAnswer::html(PAGE)), ["web page", "Space"]),
        (Fault::At(Point::Accept, Effect::Cut), ["cannot be reached", "/schema"]),
    ] {
        proxy.set(fault.clone());
        let stderr = Job::on("preflight", &proxy.url()).refused();
        for word in words {
            assert!(stderr.contains(word), "{fault:?}: {stderr}");
        }
        assert!(stderr.contains(&proxy.url()), "{stderr}");
    }
}
