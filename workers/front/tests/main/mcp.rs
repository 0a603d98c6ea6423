//! `POST /mcp`, beside a stock server. Bodies are equal to the byte, but for the text of pydantic's
//! `Invalid request: …`, which quotes the input in Python's notation: of that, its head is compared.

use envmill_testing::Watchdog;
use serde_json::{Value, json};

use crate::{
    client::{Answer, ask, create, rpc, rpc_text},
    twin::{self, NONE, Setup, Twin, WATCHDOG},
};

#[test]
fn what_is_no_request_is_refused_alike() {
    let _watchdog = Watchdog::start("requests", WATCHDOG);
    let twin = twin::shared();
    for body in ["", "{bad", "[]", "5", "null", "\"x\"", "{} x", "[{\"jsonrpc\":\"2.0\"}]"] {
        assert_eq!(twin.same("POST", "/mcp", body), 200);
    }
    let [expected, got] = twin.both("POST", "/mcp", b"\xff");
    assert_eq!((got.status, got.body), (expected.status, expected.body));
    // The type of a body is nobody's business here.
    let text = rpc_text("ping", &json!({}));
    let [expected, got] = twin.both_as("POST", "/mcp", "", text.as_bytes());
    assert_eq!((got.status, got.body), (expected.status, expected.body));

    // pydantic's words: the same number of errors, fields, messages and kinds.
    let outline = |answer: Answer| {
        let mut response = answer.json();
        let message = response["error"]["message"].as_str().unwrap().to_owned();
        let lines = message.lines().filter(|line| !line.starts_with("    For further information"));
        let told: Vec<String> = lines
            .map(|line| match line.split_once(" [type=") {
                Some((message, rest)) => {
                    let kind = rest.split([',', ']']).next().unwrap();
                    format!("{message} [type={kind}]")
                }
                None => line.to_owned(),
            })
            .collect();
        response["error"]["message"] = Value::Null;
        (answer.status, response, told)
    };
    for body in [
        "{}",
        r#"{"method":"tools/list","id":1}"#,
        r#"{"jsonrpc":"1.0","id":1,"method":"ping"}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":5}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"ping","params":null}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"ping","params":[1]}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"ping","extra":1,"more":2}"#,
        r#"{"jsonrpc":"2.0","id":[1],"method":"ping"}"#,
        r#"{"jsonrpc":"2.0","id":1.5,"method":"ping"}"#,
        r#"{"jsonrpc":"2.0","id":1e19,"method":"ping"}"#,
    ] {
        let [expected, got] = twin.both("POST", "/mcp", body.as_bytes()).map(outline);
        assert_eq!(got, expected, "{body}");
    }
}

#[test]
fn calls_without_a_session_are_answered_alike() {
    let _watchdog = Watchdog::start("calls", WATCHDOG);
    let twin = twin::shared();
    for id in ["1", "1.0", "1e2", "-0", "true", "null", "\"a\"", "1180591620717411303424"] {
        let body = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"ping"}}"#);
        twin.same("POST", "/mcp", &body);
    }
    for (method, params) in [
        ("ping", json!({})),
        ("initialize", json!({})),
        ("", json!({})),
        ("tools/list", json!({})),
        ("tools/list", json!({ "session_id": "" })),
        ("tools/list", json!({ "session_id": null })),
        ("tools/list", json!({ "session_id": 0 })),
        ("tools/list", json!({ "session_id": "x" })),
        ("tools/list", json!({ "session_id": 5 })),
        ("ping", json!({ "session_id": true })),
        ("ping", json!({ "session_id": "it's \"é\"" })),
        ("tools/call", json!({})),
        ("tools/call", json!({ "name": "" })),
        ("tools/call", json!({ "name": "add", "arguments": { "a": 1, "b": 2 } })),
        ("tools/call", json!({ "name": "boom" })),
        ("tools/call", json!({ "name": "nosuch" })),
        ("openenv/session/close", json!({})),
        ("openenv/session/close", json!({ "session_id": "" })),
        ("openenv/session/close", json!({ "session_id": "nope" })),
        ("openenv/session/close", json!({ "session_id": 5.5 })),
        ("envmill/tasks/num_tasks", json!({ "split": "train" })),
        ("envmill/tasks/num_tasks", json!({ "session_id": "nope" })),
    ] {
        assert_eq!(twin.same("POST", "/mcp", &rpc_text(method, &params)), 200);
    }
    // Each has an environment of its own: nothing is counted on.
    for _ in 0..2 {
        twin.same("POST", "/mcp", &rpc_text("tools/call", &json!({ "name": "count" })));
    }
    // A notification is answered too.
    twin.same("POST", "/mcp", r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
    assert_eq!(twin.same("GET", "/mcp", ""), 405);
    assert_eq!(twin.same("PUT", "/mcp", "{}"), 405);
}

#[test]
fn what_is_the_fronts_own_never_reaches_the_worker() {
    let _watchdog = Watchdog::start("own methods", WATCHDOG);
    let twin = twin::shared();
    let sessions = twin.sessions();
    for params in [json!({}), json!({ "session_id": "$S" })] {
        for method in ["envmill/", "envmill/tasks/list_splits", "envmill/secret"] {
            twin.same_of(&sessions, "/mcp", &rpc_text(method, &params));
        }
    }
    let calls = twin.stage.calls.lock().unwrap().clone();
    assert!(!calls.iter().any(|call| call.contains("envmill/secret")), "{calls:?}");
}

#[test]
fn sessions_live_from_create_to_close() {
    let _watchdog = Watchdog::start("sessions", WATCHDOG);
    let twin = twin::shared();
    let sessions = twin.sessions();
    let ask = |method: &str, params: Value| {
        let mut params = params;
        params["session_id"] = "$S".into();
        twin.same_of(&sessions, "/mcp", &rpc_text(method, &params))
    };
    for count in 1..=3 {
        let told = ask("tools/call", json!({ "name": "count" }));
        assert_eq!(told["result"]["data"], count);
    }
    ask("tools/list", json!({}));
    ask("tools/call", json!({ "name": "add", "arguments": { "a": -1, "b": 2 } }));
    ask("tools/call", json!({ "name": "boom" }));
    ask("tools/call", json!({ "name": "nosuch" }));
    ask("tools/call", json!({}));
    ask("initialize", json!({}));
    let told = ask("openenv/session/close", json!({}));
    assert_eq!(told["result"], json!({ "session_id": "$S", "closed": true }));
    ask("openenv/session/close", json!({}));
    let told = ask("tools/call", json!({ "name": "count" }));
    assert_eq!(told["error"]["message"], "Unknown session_id: $S");
}

#[test]
fn a_full_server_and_a_broken_factory_say_so_alike() {
    let _watchdog = Watchdog::start("refusals", WATCHDOG);
    let twin = Twin::start(Setup { max_sessions: 1, ..Setup::default() });
    let create_text = rpc_text("openenv/session/create", &json!({}));
    twin.fail_construction(true);
    twin.same("POST", "/mcp", &create_text);
    // Without a session the reference server falls over.
    assert_eq!(twin.same("POST", "/mcp", &rpc_text("tools/list", &json!({}))), 500);
    for (method, path, body) in [
        ("POST", "/front/num_tasks", r#"{"split":"train"}"#),
        ("GET", "/front/splits", ""),
        ("POST", "/reset", "{}"),
        ("GET", "/state", ""),
    ] {
        assert_eq!(twin.same(method, path, body), 500);
    }
    for path in ["/ws", "/mcp"] {
        let mut sockets = twin.sockets(&NONE, path);
        sockets.same();
        assert_eq!(sockets.same(), crate::client::Came::Closed(1000));
    }
    twin.fail_construction(false);

    let sessions = twin.sessions();
    twin.same("POST", "/mcp", &create_text);
    for path in ["/ws", "/mcp"] {
        let mut sockets = twin.sockets(&NONE, path);
        sockets.same();
        assert_eq!(sockets.same(), crate::client::Came::Closed(1000));
    }
    // What needs no session of its own goes on.
    twin.same("POST", "/mcp", &rpc_text("tools/call", &json!({ "name": "count" })));
    twin.same("POST", "/front/num_tasks", r#"{"split":"train"}"#);
    // A closed session's place is free as soon as its end is told.
    for _ in 0..20 {
        let id = sessions[1].clone();
        if rpc(twin.front.address, "tools/list", &json!({ "session_id": id }))
            .get("error")
            .is_some()
        {
            break;
        }
        rpc(twin.front.address, "openenv/session/close", &json!({ "session_id": id }));
    }
    for _ in 0..50 {
        let id = create(twin.front.address);
        let closed = rpc(twin.front.address, "openenv/session/close", &json!({ "session_id": id }));
        assert_eq!(closed["result"]["closed"], true);
    }
}

#[test]
fn a_body_too_large_is_refused() {
    let _watchdog = Watchdog::start("large bodies", WATCHDOG);
    let served = crate::served::Served::native("echo", |options| options.message_bytes_max = 1000);
    let body = vec![b' '; 2000];
    assert_eq!(ask(served.address, "POST", "/mcp", &body).status, 413);
    assert_eq!(ask(served.address, "POST", "/echo/tasks", &body).status, 413);
    assert_eq!(ask(served.address, "GET", "/health", b"").status, 200);
}
