//! The worker against stock servers: OpenEnv under uvicorn.

use std::time::Duration;

use bytes::Bytes;
use envmill_openenv::{OpenEnvWorker, Options, Server as Target, describe, ready};
use envmill_protocol::{Ended, FailureKind, Outcome, Request, SessionFate};
use envmill_testing::{PythonServer, PythonServerOptions, versions_under_test};
use envmill_workers::{
    Worker,
    conformance::{self, Subject},
};

use crate::rig::{OPEN, Rig, reset};

fn action(text: &str) -> Request {
    Request::Step { action: Bytes::copy_from_slice(text.as_bytes()) }
}

struct Stock(PythonServer);

impl Subject for Stock {
    fn worker(&self) -> Box<dyn Worker> {
        let options = Options::new(vec![Target::new(self.0.url())]);
        Box::new(OpenEnvWorker::new(options).unwrap())
    }

    fn action(&self) -> Bytes {
        Bytes::from_static(br#"{"payload_bytes":100}"#)
    }

    fn refused_action(&self) -> Bytes {
        Bytes::from_static(br#"{"payload_bytes":"many"}"#)
    }

    fn slow_action(&self) -> Option<Bytes> {
        Some(Bytes::from_static(br#"{"sleep_s":0.3}"#))
    }

    // The action never ends an episode: it does not set `done_at`.

    fn sessions(&self) -> u32 {
        64
    }
}

#[test]
fn a_stock_server_conforms() {
    conformance::run_all(&Stock(PythonServer::of("bench_env").unwrap()));
}

#[test]
fn every_version_plays_an_episode() {
    for version in versions_under_test() {
        let options = PythonServerOptions::new("bench_env").version(version);
        let server = PythonServer::start(options).unwrap();
        let target = Target::new(server.url());
        let options = Options::new(vec![target.clone()]);
        ready(&target, &options).unwrap();
        let description = describe(&target, &options).unwrap();
        assert!(description.action_schema.starts_with(b"{"), "{version}");
        assert!(String::from_utf8_lossy(&description.action_schema).contains("payload_bytes"));
        let mut rig = Rig::open(server.url());
        let Outcome::Reset(observed) = rig.ask(0, reset()) else { panic!("{version}") };
        assert_eq!(observed.reward.value, None, "{version}: a reset has no reward");
        for n in 1..=3 {
            let outcome = rig.ask(0, action(r#"{"done_at":3}"#));
            let Outcome::Stepped(observed) = outcome else { panic!("{version}: {outcome:?}") };
            assert_eq!(observed.reward.value, Some(1.0), "{version}");
            assert_eq!(observed.ended, (n == 3).then_some(Ended::TerminatedUnmapped), "{version}");
        }
        assert!(matches!(rig.ask(0, Request::State), Outcome::State(_)), "{version}");
        assert_eq!(rig.ask(0, Request::Close), Outcome::Closed);
        rig.until(|rig| rig.metrics().sockets_closing == 0);
    }
}

#[test]
fn odd_answers_of_a_stock_server() {
    let server = PythonServer::of("quirk_env").unwrap();
    let mut options = Options::new(vec![Target::new(server.url())]);
    options.truncated_from = Some("metadata.truncated".parse().unwrap());
    let mut rig = Rig::with(options);
    assert_eq!(rig.ask(0, OPEN), Outcome::Opened);
    assert!(matches!(rig.ask(0, reset()), Outcome::Reset(_)));
    for (what, reward, raw) in [
        ("rew_bool", Some(1.0), "true"),
        ("rew_int", Some(3.0), "3"),
        ("rew_bigint", Some(2f64.powi(70)), "1180591620717411303424"),
        ("rew_nan", None, "null"),
        ("rew_none", None, "null"),
    ] {
        let outcome = rig.ask(0, action(&format!(r#"{{"what":"{what}"}}"#)));
        let Outcome::Stepped(observed) = outcome else { panic!("{what}: {outcome:?}") };
        assert_eq!((observed.reward.value, &observed.reward.raw[..]), (reward, raw.as_bytes()));
    }
    for what in ["nan", "inf", "u64", "bytes", "intkeys", "emoji", "nul", "e300"] {
        let outcome = rig.ask(0, action(&format!(r#"{{"what":"{what}"}}"#)));
        assert!(matches!(outcome, Outcome::Stepped(_)), "{what}: {outcome:?}");
    }
    for what in ["raise", "badbytes", "surrogate", "asyncio_to"] {
        let outcome = rig.ask(0, action(&format!(r#"{{"what":"{what}"}}"#)));
        let Outcome::Failed(failure) = outcome else { panic!("{what}: {outcome:?}") };
        assert_eq!(failure.kind, FailureKind::Environment, "{what}: {failure}");
        assert_eq!(failure.session, SessionFate::Kept);
    }
    let outcome = rig.ask(0, action(r#"{"what":"big","n":20000000}"#));
    let Outcome::Stepped(observed) = outcome else { panic!("a large observation") };
    assert!(observed.observation.len() > 20_000_000);
    // A validator that raises breaks the server's own error frame, and the session with it.
    let failure = rig.lost(0, action(r#"{"what":"valueerror"}"#));
    assert_eq!(failure.kind, FailureKind::Invalid, "{failure}");
    rig.assert_gone(0);
}

#[test]
fn more_sessions_than_a_server_holds() {
    let options = PythonServerOptions::new("bench_env").env("MAX_CONCURRENT_ENVS", 2);
    let server = PythonServer::start(options).unwrap();
    let mut rig = Rig::new(server.url());
    for slot in 0..2 {
        assert_eq!(rig.ask(slot, OPEN), Outcome::Opened);
        assert!(matches!(rig.ask(slot, reset()), Outcome::Reset(_)));
    }
    let failure = match rig.ask(2, OPEN) {
        Outcome::Opened => rig.lost(2, reset()),
        Outcome::Failed(failure) => failure,
        other => panic!("{other:?}"),
    };
    assert_eq!(failure.kind, FailureKind::Capacity, "{failure}");
    // A slot that is closed is free for somebody else, though not in the same moment.
    assert_eq!(rig.ask(0, Request::Close), Outcome::Closed);
    rig.until(|rig| {
        rig.submit(2, Request::Close);
        while rig.next().outcome != Outcome::Closed {}
        if !matches!(rig.ask(2, OPEN), Outcome::Opened) {
            return false;
        }
        let generation = rig.submit(2, reset());
        let event = rig.next();
        event.generation == generation && matches!(event.outcome, Outcome::Reset(_))
    });
}

#[test]
fn a_server_that_is_terminated_or_killed() {
    let mut server = PythonServer::of("bench_env").unwrap();
    let mut rig = Rig::open(server.url());
    assert!(matches!(rig.ask(0, reset()), Outcome::Reset(_)));
    server.terminate();
    let failure = rig.lost_idle(0);
    assert_eq!(failure.kind, FailureKind::Closed { code: 1012 }, "{failure}");
    server.restart().unwrap();
    assert_eq!(rig.ask(0, OPEN), Outcome::Opened);
    rig.submit(0, action(r#"{"sleep_s":60}"#));
    rig.look(Duration::from_millis(200));
    server.kill();
    let failure = rig.lost_idle(0);
    assert_eq!(failure.kind, FailureKind::Disconnected, "{failure}");
    assert_eq!(rig.lost(0, OPEN).kind, FailureKind::Unreachable);
}

#[test]
fn a_wrong_path_is_refused_with_403() {
    let server = PythonServer::of("bench_env").unwrap();
    let failure = Rig::refused(format!("{}/nowhere", server.url()));
    assert_eq!(failure.kind, FailureKind::UpgradeRefused { status: 403 }, "{failure}");
    let target = Target::new(format!("{}/nowhere", server.url()));
    let error = describe(&target, &Options::new(Vec::new())).unwrap_err().to_string();
    assert!(error.contains("404") && error.contains("OpenEnv"), "{error}");
}
