//! Sessions of native environments.

use std::time::{Duration, Instant};

use bytes::Bytes;
use envmill_protocol::{Ended, FailureKind, Outcome, Request, SessionFate};

use crate::support::{Sessions, parameters, step, text};

#[test]
fn echo_answers_as_openenv_does() {
    let mut sessions = Sessions::with_session("echo", &parameters(&[]));
    let ready = sessions.reset(r#"{"seed":3,"unknown":[1]}"#);
    assert_eq!(
        text(&ready.observation),
        r#"{"metadata":{},"echoed_message":"Echo environment ready!","message_length":0}"#
    );
    assert_eq!(text(&ready.reward.raw), "0.0");
    let observed = sessions.step(r#"{"message":"héllo","metadata":{"a":1}}"#);
    assert_eq!(
        text(&observed.observation),
        r#"{"metadata":{"original_message":"héllo","step":1},"echoed_message":"héllo","message_length":5}"#
    );
    assert_eq!(text(&observed.reward.raw), "0.5");
    assert_eq!(observed.reward.value, Some(0.5));
    assert_eq!(text(&observed.metadata), r#"{"original_message":"héllo","step":1}"#);
    assert_eq!(observed.ended, None);
}

#[test]
fn wrong_fields_are_named() {
    let mut sessions = Sessions::with_session("echo", &parameters(&[]));
    let failure = sessions.try_step(r#"{"message":5,"bogus":[1]}"#).expect_err("refused");
    assert_eq!((failure.kind, failure.session), (FailureKind::Invalid, SessionFate::Kept));
    expect_test::expect![
        "message: Input should be a valid string; bogus: Extra inputs are not permitted"
    ]
    .assert_eq(&failure.message);
    expect_test::expect![[r#"[{"type":"string_type","loc":["message"],"msg":"Input should be a valid string","input":5,"url":"https://errors.pydantic.dev/2.14/v/string_type"},{"type":"extra_forbidden","loc":["bogus"],"msg":"Extra inputs are not permitted","input":[1],"url":"https://errors.pydantic.dev/2.14/v/extra_forbidden"}]"#]].assert_eq(text(&failure.details));
    let message =
        |sessions: &mut Sessions, action| sessions.try_step(action).expect_err("refused").message;
    expect_test::expect!["message: Field required"].assert_eq(&message(&mut sessions, "{}"));
    expect_test::expect!["Input should be a valid dictionary"]
        .assert_eq(&message(&mut sessions, "[]"));
    expect_test::expect!["Invalid JSON: EOF while parsing a value at line 1 column 11"]
        .assert_eq(&message(&mut sessions, "{\"message\":"));
    let mut sessions = Sessions::with_session("cartpole", &parameters(&[]));
    expect_test::expect![
        "action: Input should be a valid integer, got a number with a fractional part"
    ]
    .assert_eq(&message(&mut sessions, r#"{"action":1.5}"#));
    expect_test::expect![
        "action: Input should be a valid integer, unable to parse string as an integer"
    ]
    .assert_eq(&message(&mut sessions, r#"{"action":"x"}"#));
    expect_test::expect!["action: Input should be 0 or 1"]
        .assert_eq(&message(&mut sessions, r#"{"action":7}"#));
    for accepted in ["1", "1.0", "\"1\"", "true"] {
        sessions.step(&format!("{{\"action\":{accepted}}}"));
    }
}

#[test]
fn the_state_counts_steps_and_keeps_the_episode_id() {
    let mut sessions = Sessions::with_session("cartpole", &parameters(&[]));
    let state = |sessions: &mut Sessions| match sessions.ask(0, Request::State) {
        Outcome::State(state) => text(&state).to_owned(),
        outcome => panic!("{outcome:?}"),
    };
    assert_eq!(state(&mut sessions), r#"{"episode_id":null,"step_count":0,"steps_max":500}"#);
    sessions.reset(r#"{"seed":1,"episode_id":"ep \"1\""}"#);
    sessions.step(r#"{"action":1}"#);
    let _ = sessions.try_step("{}");
    assert_eq!(state(&mut sessions), r#"{"episode_id":"ep \"1\"","step_count":1,"steps_max":500}"#);
}

#[test]
fn episodes_without_seeds_differ() {
    let mut sessions = Sessions::with_session("cartpole", &parameters(&[]));
    let first = sessions.reset("");
    assert_ne!(first, sessions.reset(""));
    assert_ne!(first, sessions.reset(r#"{"seed":null}"#));
    let mut again = Sessions::with_session("cartpole", &parameters(&[]));
    assert_eq!(first, again.reset(""), "yet every run draws the same ones");
}

#[test]
fn tools_are_answered_as_missing() {
    let mut sessions = Sessions::with_session("echo", &parameters(&[]));
    for (request, code, message) in [
        (r#""method":"tools/list""#, -32603, "Environment does not support MCP"),
        (
            r#""method":"tools/call","params":{"name":"add"}"#,
            -32603,
            "Environment does not support MCP",
        ),
        (r#""method":"tools/call","params":{"name":""}"#, -32602, "Missing 'name' in params"),
        (r#""method":"a\"b""#, -32601, r#"Method not found: a\"b"#),
        (r#""params":[1]"#, -32601, "Method not found: "),
    ] {
        let request = format!(r#"{{"jsonrpc":"2.0","id":"a",{request}}}"#).into();
        let outcome = sessions.ask(0, Request::ToolCall { request });
        let Outcome::ToolResult(result) = outcome else { panic!("{outcome:?}") };
        let error = format!(r#"{{"code":{code},"message":"{message}","data":null}}"#);
        assert_eq!(text(&result), format!(r#"{{"jsonrpc":"2.0","id":"a","error":{error}}}"#));
    }
    let request = Bytes::from_static(b"[1]");
    let outcome = sessions.ask(0, Request::ToolCall { request });
    let Outcome::ToolResult(result) = outcome else { panic!("{outcome:?}") };
    assert!(text(&result).contains("-32700"), "{result:?}");
}

#[test]
fn synthetic_fails_as_often_as_told() {
    let options = parameters(&[("fail_rate", "0.25"), ("episode_steps", "1000000")]);
    let mut sessions = Sessions::with_session("synthetic", &options);
    sessions.reset(r#"{"seed":5}"#);
    let failures: Vec<_> = (0..2000).filter_map(|_| sessions.try_step("{}").err()).collect();
    assert!((400..600).contains(&failures.len()), "{}", failures.len());
    assert!(failures.iter().all(|failure| {
        failure.kind == FailureKind::Environment && failure.session == SessionFate::Kept
    }));
    let mut sessions = Sessions::with_session("synthetic", &parameters(&[("episode_steps", "5")]));
    for seed in 0..50 {
        sessions.reset(&format!("{{\"seed\":{seed}}}"));
        let steps = (1..20).find(|_| sessions.step("{}").ended == Some(Ended::Terminated));
        assert!(steps.is_some_and(|steps| steps <= 9), "{steps:?}");
    }
}

#[test]
fn payloads_have_the_size_asked_for() {
    for bytes in [0usize, 1, 7, 8, 9, 1000, 1 << 20] {
        let options = parameters(&[("payload_bytes", &bytes.to_string())]);
        let mut sessions = Sessions::with_session("synthetic", &options);
        let seen: serde_json::Value =
            serde_json::from_slice(&sessions.step("{}").observation).expect("JSON");
        assert_eq!(seen["payload"].as_str().map(str::len), Some(bytes));
    }
}

#[test]
fn delays_are_waited_for_side_by_side() {
    let options = parameters(&[("step_ms", "40"), ("jitter", "0.5")]);
    let mut sessions = Sessions::new("synthetic", &options);
    for slot in 0..1000 {
        sessions.open(slot);
    }
    let began = Instant::now();
    let events = sessions.batch((0..1000).map(|slot| (slot, step("{}"))).collect());
    assert_eq!(events.len(), 1000);
    assert!(began.elapsed() >= Duration::from_millis(50), "the slowest takes 60 ms or nearly so");
    // One after another they would take 40 s and reach the watchdog.
}

#[test]
fn closed_sessions_leave_nothing_behind() {
    let options = parameters(&[("step_ms", "3600000")]);
    let mut sessions = Sessions::new("synthetic", &options);
    for _ in 0..2000 {
        sessions.open(3);
        let closed = sessions.batch_of_step_and_close(3);
        assert_eq!(closed, [Outcome::Closed]);
    }
}

impl Sessions {
    fn batch_of_step_and_close(&mut self, slot: u32) -> Vec<Outcome> {
        use envmill_protocol::{Command, Generation, Slot};
        use envmill_workers::Worker;

        let command = |request| Command { slot: Slot(slot), generation: Generation(1), request };
        let mut events = Vec::new();
        self.worker.submit(&mut vec![command(step("{}")), command(Request::Close)]);
        self.worker.completions(&mut events, Duration::ZERO);
        events.into_iter().map(|event| event.outcome).collect()
    }
}
