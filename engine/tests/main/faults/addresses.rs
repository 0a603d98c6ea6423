//! A name that comes to mean another server in the middle of a run.

use std::collections::BTreeSet;

use envmill_testing::{Effect, Fault, FaultProxy, HttpAnswer, PythonServer, wait_until};

use crate::rig::{BOUND, Job, Playing, bench_server, own_bench_server};

fn under_way(name: &str, proxy: &FaultProxy, arguments: &str) -> Playing {
    let mut playing = Job::on(name, &proxy.url())
        .words("--sessions 6 --session-reuse 2 --attempts 4 --max-steps 6")
        .words(arguments)
        .args(["--policy", "constant:{}"])
        .start();
    playing.wait_for_records(3);
    playing
}

/// What happens when a deployment is replaced: the old one is refused for a moment, its sessions
/// are cut, then new ones land elsewhere.
fn replace(proxy: &FaultProxy, target: &PythonServer) {
    proxy.set(Fault::Answer(HttpAnswer::status(503)));
    let accepted = proxy.counts().accepted;
    proxy.strike(Effect::Cut);
    wait_until("the refusal is seen", BOUND, || proxy.counts().accepted > accepted + 1);
    proxy.set_target(target.address());
    proxy.set(Fault::Pass);
}

#[test]
fn the_same_environment_elsewhere_goes_on() {
    let other = own_bench_server();
    let proxy = FaultProxy::start(bench_server().address()).unwrap();
    let playing = under_way("moved", &proxy, "--episodes 1500");
    // First as a name that is resolved anew, then with everything cut.
    proxy.set_target(other.address());
    replace(&proxy, &other);
    let played = playing.end();
    played.all_played();
    played.steps_in_order();
    let pid = |observation: &[u8]| {
        serde_json::from_slice::<serde_json::Value>(observation).unwrap()["pid"].clone()
    };
    let pids: Vec<_> = played
        .records
        .iter()
        .map(|record| pid(&record.reset.as_ref().unwrap().observation))
        .collect();
    assert!(pids.contains(&other.pid().into()) && pids.contains(&bench_server().pid().into()));
}

#[test]
fn another_environment_behind_the_same_name_stops_the_job() {
    let other = PythonServer::of("close_env").unwrap();
    let proxy = FaultProxy::start(bench_server().address()).unwrap();
    let playing = under_way("changed", &proxy, "--episodes 20000");
    replace(&proxy, &other);
    let played = playing.end();
    assert!(played.episodes("cancelled") > 0, "{}", played.summary);
    let cancelled = played.records.iter().find(|r| r.end.name() == "cancelled").unwrap();
    assert_eq!(cancelled.end.cause(), "stopped");
    assert!(played.finished.stderr.contains("fingerprint"), "{}", played.finished.stderr);
}

/// Also where nothing was ever refused: the connections broke, and the next ones lead elsewhere.
#[test]
fn another_environment_behind_the_same_name_is_noticed_without_a_gap() {
    let other = PythonServer::of("close_env").unwrap();
    let proxy = FaultProxy::start(bench_server().address()).unwrap();
    let playing = under_way("without a gap", &proxy, "--episodes 20000");
    proxy.set_target(other.address());
    proxy.strike(Effect::Cut);
    let played = playing.end();
    assert!(played.records.iter().any(|record| record.end.cause() == "stopped"));
}

#[test]
fn another_environment_behind_the_same_name_is_marked_where_that_is_asked_for() {
    let other = PythonServer::of("close_env").unwrap();
    let proxy = FaultProxy::start(bench_server().address()).unwrap();
    let playing = under_way("marked", &proxy, "--episodes 1500 --on-fingerprint-change mark");
    replace(&proxy, &other);
    let played = playing.end();
    played.all_played();
    let fingerprints: BTreeSet<_> =
        played.records.iter().map(|r| &r.provenance.environment_fingerprint).collect();
    assert_eq!(fingerprints.len(), 2, "{fingerprints:?}");
}
