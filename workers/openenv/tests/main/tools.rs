//! Tools, attached sessions, agents and expired sessions, on stock servers.

use std::time::{Duration, Instant};

use bytes::Bytes;
use envmill_openenv::{OpenEnvWorker, Options, Server as Target, Tool, Transport, tools};
use envmill_protocol::{FailureKind, Outcome, Request, SessionFate};
use envmill_testing::{PythonServer, PythonServerOptions, post, versions_under_test};
use envmill_workers::{Asker, ToolSteps};

use crate::rig::{OPEN, Rig, WATCHDOG, reset};

fn call(id: &str, tool: &str, arguments: &str) -> Request {
    Request::ToolCall {
        request: format!(
            r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"{tool}","arguments":{arguments}}}}}"#
        )
        .into(),
    }
}

fn act(tool: &str, arguments: &str) -> Request {
    Request::Step {
        action: format!(r#"{{"type":"call_tool","tool_name":"{tool}","arguments":{arguments}}}"#)
            .into(),
    }
}

fn text(bytes: &Bytes) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn stepped(outcome: Outcome) -> String {
    let Outcome::Stepped(observed) = outcome else { panic!("{outcome:?}") };
    text(&observed.observation)
}

fn kept(outcome: Outcome) -> FailureKind {
    let Outcome::Failed(failure) = outcome else { panic!("{outcome:?}") };
    assert_eq!(failure.session, SessionFate::Kept, "{failure}");
    failure.kind
}

fn create(server: &PythonServer) -> String {
    let request = r#"{"jsonrpc":"2.0","id":1,"method":"openenv/session/create"}"#;
    let (status, body) = post(server.address(), "/mcp", request).unwrap();
    assert_eq!(status, 200, "{body}");
    let (_, id) = body.split_once(r#""session_id":""#).unwrap();
    id.split('"').next().unwrap().to_owned()
}

/// Calls of tools and steps take turns on one session, and only what breaks it ends it.
fn converse(rig: &mut Rig, steps_count: bool) {
    assert!(matches!(rig.ask(0, reset()), Outcome::Reset(_)));
    for id in ["7", r#""seven""#] {
        let Outcome::ToolResult(answer) = rig.ask(0, call(id, "add", r#"{"a":1,"b":2}"#)) else {
            panic!()
        };
        assert!(text(&answer).contains(r#""data":3"#), "{answer:?}");
        assert!(stepped(rig.ask(0, act("add", r#"{"a":2,"b":5}"#))).contains(r#""data":7"#));
    }
    assert_eq!(kept(rig.ask(0, call("1", "boom", "{}"))), FailureKind::Environment);
    assert_eq!(kept(rig.ask(0, call("1", "nosuch", "{}"))), FailureKind::Environment);
    for (request, kind) in [
        (r#"{"jsonrpc":"2.0","id":1,"method":"initialize"}"#, FailureKind::Refused),
        (r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{}}"#, FailureKind::Invalid),
        (r#"{"id":1,"method":"tools/list"}"#, FailureKind::Refused),
    ] {
        let request = Request::ToolCall { request: request.into() };
        assert_eq!(kept(rig.ask(0, request)), kind);
    }
    // A tool that raises is an answer to the step.
    let raised = stepped(rig.ask(0, act("boom", "{}")));
    assert!(raised.contains("tool boom") && raised.contains(r#""result":null"#), "{raised}");
    let list = Request::Step { action: Bytes::from_static(br#"{"type":"list_tools"}"#) };
    if steps_count {
        assert!(stepped(rig.ask(0, list)).contains(r#""name":"slow""#));
    }
    assert!(matches!(rig.ask(0, reset()), Outcome::Reset(_)));
    assert!(stepped(rig.ask(0, act("add", r#"{"a":1,"b":1}"#))).contains(r#""data":2"#));
    assert_eq!(rig.ask(0, Request::Close), Outcome::Closed);
    rig.until(|rig| rig.metrics().sockets_closing == 0);
    rig.assert_quiet();
    assert_eq!(rig.metrics().requests_in_flight, 0);
}

#[test]
fn tool_calls_and_steps_share_a_session() {
    let server = PythonServer::of("mcp_env").unwrap();
    converse(&mut Rig::open(server.url()), true);
}

#[test]
fn tools_beside_the_actions_are_steps_on_the_same_session() {
    let list = || Request::Step { action: Bytes::from_static(br#"{"type":"list_tools"}"#) };
    let answer = || Request::Step { action: Bytes::from_static(br#"{"answer":"7"}"#) };
    for version in versions_under_test() {
        let server =
            PythonServer::start(PythonServerOptions::new("answer_env").version(version)).unwrap();
        let worker = OpenEnvWorker::new(Options::new(vec![Target::new(server.url())])).unwrap();
        let mut asker = Asker::new(ToolSteps::new(worker), WATCHDOG);
        asker.open().unwrap();
        asker.ask(reset()).unwrap();
        let refused = asker.ask(list()).unwrap_err();
        assert_eq!(refused.session, SessionFate::Kept, "{version}: {refused}");

        asker.worker().call_tools_beside();
        let listed = stepped(asker.ask(list()).unwrap());
        assert!(listed.contains(r#""name":"add""#), "{version}: {listed}");
        for count in 1..=2 {
            let seen = stepped(asker.ask(act("add", r#"{"a":2,"b":5}"#)).unwrap());
            assert!(seen.contains('7') && seen.contains(r#""error":null"#), "{version}: {seen}");
            // It is the session's own environment that has counted.
            let seen = stepped(asker.ask(act("calls", "{}")).unwrap());
            assert!(seen.contains(&format!(r#""data":{count}"#)), "{version}: {seen}");
        }
        let raised = stepped(asker.ask(act("boom", "{}")).unwrap());
        assert!(raised.contains("execution_error"), "{version}: {raised}");
        let Outcome::Stepped(last) = asker.ask(answer()).unwrap() else { panic!() };
        assert!(last.ended.is_some(), "{version}: {last:?}");
        asker.close();
    }
}

#[test]
fn every_version_tells_its_tools() {
    for version in versions_under_test() {
        let options = PythonServerOptions::new("mcp_env").version(version);
        let server = PythonServer::start(options).unwrap();
        let known = tools(&Target::new(server.url()), &Options::new(Vec::new())).unwrap();
        let names: Vec<&str> = known.iter().map(|tool| &*tool.name).collect();
        assert_eq!(names, ["add", "boom", "slow", "nan"], "{version}");
        let Tool { input_schema, .. } = &known[0];
        assert!(input_schema.contains(r#""required":["a","b"]"#), "{version}: {input_schema}");
    }
    let server = PythonServer::of("bench_env").unwrap();
    assert_eq!(tools(&Target::new(server.url()), &Options::new(Vec::new())).unwrap(), []);
    let nobody = tools(&Target::new("http://127.0.0.1:0"), &Options::new(Vec::new()));
    assert!(nobody.is_err());
}

fn over_http(url: String) -> Rig {
    let mut rig =
        Rig::with(Options::new(vec![Target { transport: Transport::McpHttp, ..Target::new(url) }]));
    assert_eq!(rig.ask(0, OPEN), Outcome::Opened);
    rig
}

#[test]
fn tools_over_http() {
    let server = PythonServer::start(PythonServerOptions::new("mcp_env").env("MAXS", 1)).unwrap();
    converse(&mut over_http(server.url()), true);
    let mut rig = over_http(server.url());
    rig.until(|rig| {
        matches!(rig.ask(0, reset()), Outcome::Reset(_)) || {
            assert_eq!(rig.ask(0, OPEN), Outcome::Opened);
            false
        }
    });
    assert_eq!(rig.ask(1, OPEN), Outcome::Opened);
    assert_eq!(rig.lost(1, reset()).kind, FailureKind::Capacity);
    assert_eq!(kept(rig.ask(0, Request::State)), FailureKind::Refused);
    let step = Request::Step { action: Bytes::from_static(b"{}") };
    assert_eq!(kept(rig.ask(0, step)), FailureKind::Invalid);
    // A call that is abandoned takes its connection with it.
    rig.submit(0, act("slow", r#"{"s":30}"#));
    rig.look(Duration::from_millis(200));
    assert_eq!(rig.ask(0, Request::Close), Outcome::Closed);
    let unknown = over_http(format!("{}/nowhere", server.url())).lost(0, reset());
    assert_eq!(unknown.kind, FailureKind::UpgradeRefused { status: 404 }, "{unknown}");
}

#[test]
fn a_session_over_http_is_found_again_among_processes() {
    let options = PythonServerOptions::new("mcp_env").workers(2).argument("--timeout-keep-alive");
    let server = PythonServer::start(options.argument("1")).unwrap();
    let mut rig = over_http(server.url());
    for slot in 0..4 {
        if slot > 0 {
            assert_eq!(rig.ask(slot, OPEN), Outcome::Opened);
        }
        assert!(matches!(rig.ask(slot, reset()), Outcome::Reset(_)));
    }
    for round in 0..2 {
        // The server ends silent connections after a second.
        let pause = Instant::now();
        while pause.elapsed() < Duration::from_millis(1500) {
            rig.look(Duration::from_millis(100));
        }
        for slot in 0..4 {
            let answer = stepped(rig.ask(slot, act("add", r#"{"a":2,"b":5}"#)));
            assert!(answer.contains(r#""data":7"#), "{round} {slot}: {answer}");
        }
    }
    // One that nobody knows any more is said to be so.
    let close = r#"{"jsonrpc":"2.0","id":"x","method":"openenv/session/close","params":{}}"#;
    assert!(matches!(
        rig.ask(0, Request::ToolCall { request: close.into() }),
        Outcome::ToolResult(_)
    ));
    let failure = rig.lost(0, act("add", r#"{"a":2,"b":5}"#));
    assert!(matches!(failure.kind, FailureKind::Expired | FailureKind::Session), "{failure}");
}

#[test]
fn sessions_that_exist_are_attached_to_once() {
    let server = PythonServer::of("mcp_env").unwrap();
    let ids = [create(&server), "unknown".to_owned(), create(&server)];
    let taken = ids[2].clone();
    let mut holder =
        Rig::with(Options::new(vec![Target { attach: vec![taken], ..Target::new(server.url()) }]));
    assert_eq!(holder.ask(0, OPEN), Outcome::Opened);
    assert!(matches!(holder.ask(0, reset()), Outcome::Reset(_)));
    let mut rig =
        Rig::with(Options::new(vec![Target { attach: ids.to_vec(), ..Target::new(server.url()) }]));
    assert_eq!(rig.ask(0, OPEN), Outcome::Opened);
    assert!(matches!(rig.ask(0, reset()), Outcome::Reset(_)));
    assert!(stepped(rig.ask(0, act("add", r#"{"a":2,"b":5}"#))).contains(r#""data":7"#));
    assert_eq!(rig.ask(0, Request::Close), Outcome::Closed);
    // The second is not there, the third has somebody attached, and there is no fourth.
    for slot in [1, 2] {
        let failure = match rig.ask(slot, OPEN) {
            Outcome::Opened => rig.lost(slot, reset()),
            Outcome::Failed(failure) => failure,
            other => panic!("{other:?}"),
        };
        assert_eq!(failure.kind, FailureKind::Attach, "{failure}");
    }
    let failure = rig.lost(3, OPEN);
    assert_eq!(failure.kind, FailureKind::NoServer, "{failure}");
    // A server that is told anew, for instance after a restart, gives none of them again.
    let again = Target { attach: ids.to_vec(), ..Target::new(server.url()) };
    rig.worker.set_server(envmill_protocol::ServerId(0), &again).unwrap();
    assert_eq!(rig.lost(3, OPEN).kind, FailureKind::NoServer);
}

#[test]
fn an_agent_is_spoken_with_turn_by_turn() {
    let options = PythonServerOptions::new("harness_env").env("OPENENV_MODE", "production");
    let server = PythonServer::start(options).unwrap();
    let target = Target { transport: Transport::Harness, ..Target::new(server.url()) };
    let message =
        |text: &str| Request::Step { action: format!(r#"{{"message":"{text}"}}"#).into() };
    let open = || {
        let mut rig = Rig::with(Options::new(vec![target.clone()]));
        // One agent a server: the one before may still be leaving.
        rig.until(|rig| {
            rig.ask(0, OPEN) == Outcome::Opened && matches!(rig.ask(0, reset()), Outcome::Reset(_))
        });
        rig
    };
    let mut rig = open();
    let first = stepped(rig.ask(0, message("hi")));
    assert!(first.starts_with(r#"{"metadata":{"response":"did hi","turn_events":[{"type":"llm"#));
    assert!(first.contains("tool_call") && first.contains("turn_complete"), "{first}");
    let invalid = Request::Step { action: Bytes::from_static(b"{}") };
    assert_eq!(kept(rig.ask(0, invalid)), FailureKind::Invalid);
    assert_eq!(kept(rig.ask(0, Request::State)), FailureKind::Refused);
    let Outcome::Stepped(last) = rig.ask(0, message("finish")) else { panic!() };
    assert!(last.ended.is_some());
    assert_eq!(rig.lost(0, reset()).kind, FailureKind::Refused, "one episode");
    for (text, words) in
        [("boom", "turn failed"), ("noend", "TURN_COMPLETE"), ("hang", "exceeded 3")]
    {
        let failure = open().lost(0, message(text));
        assert_eq!(failure.kind, FailureKind::Environment, "{failure}");
        assert!(failure.message.contains(words), "{failure}");
    }
    // Where the agent is a step of the session socket, there is no such endpoint.
    let simulated = PythonServer::of("harness_env").unwrap();
    let target = Target { transport: Transport::Harness, ..Target::new(simulated.url()) };
    let failure = Rig::with(Options::new(vec![target])).lost(0, OPEN);
    assert_eq!(failure.kind, FailureKind::UpgradeRefused { status: 403 }, "{failure}");
}

#[test]
fn a_session_that_its_server_has_given_up_is_not_believed() {
    let server = PythonServer::of("close_env").unwrap();
    let step = || Request::Step { action: Bytes::from_static(b"{}") };
    // Without knowing the server's timeout, a step on the closed environment looks like any other.
    let known =
        Target { session_timeout: Some(Duration::from_secs(6)), ..Target::new(server.url()) };
    let mut rig = Rig::with(Options::new(vec![known, Target::new(server.url())]));
    let unaware = Request::Open { server: envmill_protocol::ServerId(1) };
    for (slot, open) in [(0, OPEN), (1, unaware)] {
        assert_eq!(rig.ask(slot, open), Outcome::Opened);
        assert!(matches!(rig.ask(slot, reset()), Outcome::Reset(_)));
        assert!(stepped(rig.ask(slot, step())).contains("closed=False"));
    }
    let started = Instant::now();
    while !stepped_after_idling(&mut rig, &started) {
        assert!(started.elapsed() < WATCHDOG);
    }
    let failure = rig.lost(0, step());
    assert_eq!(failure.kind, FailureKind::Expired, "{failure}");
    assert!(stepped(rig.ask(1, step())).contains("closed=True"), "what was spared us");
    assert_eq!(rig.ask(0, OPEN), Outcome::Opened);
    assert!(matches!(rig.ask(0, reset()), Outcome::Reset(_)));
}

/// Lets both sessions idle until the server has looked at them twice after their time.
fn stepped_after_idling(rig: &mut Rig, started: &Instant) -> bool {
    rig.look(Duration::from_millis(500));
    started.elapsed() > Duration::from_secs(13)
}
