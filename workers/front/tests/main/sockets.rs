//! JSON-RPC over WebSockets, beside a stock server: on `WS /mcp`, and in the `mcp` frames of `/ws`.

use envmill_testing::Watchdog;
use serde_json::{Value, json};

use crate::{
    client::{Came, Ws, rpc_text},
    twin::{self, NONE, Pair, WATCHDOG},
};

/// Calls that both sockets answer, each with an environment of its own.
const CALLS: [(&str, &str); 9] = [
    ("tools/list", "{}"),
    ("tools/call", r#"{"name":"count"}"#),
    ("tools/call", r#"{"name":"count","session_id":"ignored"}"#),
    ("tools/call", r#"{"name":"boom"}"#),
    ("tools/call", "{}"),
    ("initialize", "{}"),
    ("envmill/tasks/list_splits", "{}"),
    ("openenv/session/close", "{}"),
    ("openenv/session/close", r#"{"session_id":"nope"}"#),
];

fn call(method: &str, params: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":"é","method":"{method}","params":{params}}}"#)
}

#[test]
fn mcp_over_a_socket() {
    let _watchdog = Watchdog::start("WS /mcp", WATCHDOG);
    let twin = twin::shared();
    let mut sockets = twin.sockets(&NONE, "/mcp");
    for (method, params) in CALLS {
        sockets.ask(&call(method, params));
    }
    let outline = |came: Came| {
        let Came::Frame(mut frame) = came else { panic!("{came:?}") };
        let message = frame["error"]["message"].take();
        // The parser's own words differ.
        (frame, message.as_str().unwrap().split(':').next().unwrap().to_owned())
    };
    for text in ["{bad", "", r#"{"jsonrpc":"2.0"}"#, r#"{"jsonrpc":"2.0","method":"m","x":1}"#] {
        sockets.send(text);
        let [expected, got] = sockets.came().map(outline);
        assert_eq!(got, expected, "{text}");
    }
    // It goes on.
    sockets.ask(&call("tools/call", r#"{"name":"count"}"#));
    sockets.close();
}

#[test]
fn what_ends_a_socket_of_mcp() {
    let _watchdog = Watchdog::start("the end of WS /mcp", WATCHDOG);
    let twin = twin::shared();
    for text in ["[]", "[1]", "5", "1.5", "null", "\"x\"", "true"] {
        let mut sockets = twin.sockets(&NONE, "/mcp");
        sockets.ask(text);
        assert_eq!(sockets.same(), Came::Closed(1000), "{text}");
    }
    let mut sockets = twin.sockets(&NONE, "/mcp");
    sockets.sockets.iter_mut().for_each(|socket| socket.send_binary(b"{}"));
    sockets.same();
    assert_eq!(sockets.same(), Came::Closed(1000));
}

#[test]
fn mcp_in_frames() {
    let _watchdog = Watchdog::start("mcp frames", WATCHDOG);
    let twin = twin::shared();
    let mut sockets = twin.sockets(&NONE, "/ws");
    let wrapped = |text: &str| format!(r#"{{"type":"mcp","data":{text}}}"#);
    for (method, params) in CALLS {
        sockets.ask(&wrapped(&call(method, params)));
    }
    for text in ["null", "[1]", "5"] {
        sockets.ask(&wrapped(text));
    }
    sockets.send(&wrapped(r#"{"x":1}"#));
    let [expected, got] = sockets.came().map(|came| {
        let Came::Frame(mut frame) = came else { panic!("{came:?}") };
        let message = frame["data"]["error"]["message"].take();
        let told = message.as_str().unwrap().lines().next().unwrap().to_owned();
        (frame, told)
    });
    assert_eq!(got, expected);
    sockets.ask(r#"{"type":"mcp"}"#);
    // Steps, resets and calls share the session.
    sockets.ask(r#"{"type":"reset","data":{"episode_id":"x"}}"#);
    sockets.ask(r#"{"type":"step","data":{"type":"call_tool","tool_name":"count"}}"#);
    sockets.ask(&wrapped(&call("tools/call", r#"{"name":"count"}"#)));
    sockets.ask(r#"{"type":"state"}"#);
    sockets.send(r#"{"type":"close"}"#);
    assert_eq!(sockets.same(), Came::Closed(1000));
}

/// A socket's own session, named by its client: others may use it, and only the socket itself may not
/// end it.
#[test]
fn a_sockets_session_has_a_name() {
    let _watchdog = Watchdog::start("names", WATCHDOG);
    let twin = twin::shared();
    for path in ["/mcp", "/ws"] {
        let mut own = twin.sockets(&NONE, path);
        let wrapped = |method: &str, params: &Value| {
            let text = rpc_text(method, params);
            if path == "/mcp" { text } else { format!(r#"{{"type":"mcp","data":{text}}}"#) }
        };
        let named = |came: Came| {
            let Came::Frame(frame) = came else { panic!("{came:?}") };
            let response = if path == "/mcp" { &frame } else { &frame["data"] };
            response["result"]["session_id"].as_str().unwrap().to_owned()
        };
        own.send(&wrapped("openenv/session/create", &json!({})));
        let sessions = own.came().map(named);
        own.send(&wrapped("openenv/session/create", &json!({})));
        assert_eq!(own.came().map(named), sessions);
        let mut own = Pair { sockets: own.sockets, sessions: sessions.clone() };

        own.ask(&wrapped("openenv/session/close", &json!({ "session_id": "$S" })));
        own.ask(&wrapped("tools/call", &json!({ "name": "count" })));
        let params = json!({ "name": "count", "session_id": "$S" });
        let told = twin.same_of(&sessions, "/mcp", &rpc_text("tools/call", &params));
        assert_eq!(told["result"]["data"], 2);
        let mut other = twin.sockets(&sessions, "/ws?session_id=$S");
        let text = rpc_text("tools/call", &json!({ "name": "count" }));
        let told = other.ask(&format!(r#"{{"type":"mcp","data":{text}}}"#));
        assert_eq!(told["data"]["result"]["data"], 3);
        other.close();
        own.ask(&wrapped("tools/call", &json!({ "name": "count" })));
        own.close();
        twin.ended(&sessions);
    }
}

/// One socket ends the session of another, which was made over HTTP.
#[test]
fn a_socket_closes_another_session() {
    let _watchdog = Watchdog::start("closing another", WATCHDOG);
    let twin = twin::shared();
    let sessions = twin.sessions();
    let socket = twin.sockets(&NONE, "/mcp");
    let mut socket = Pair { sockets: socket.sockets, sessions };
    let close = rpc_text("openenv/session/close", &json!({ "session_id": "$S" }));
    let told = socket.ask(&close);
    assert_eq!(told["result"]["closed"], true);
    socket.ask(&close);
    socket.close();
}

/// A socket's own session, closed by somebody else who has its name: the socket is told.
#[test]
fn a_sockets_session_is_closed_by_another() {
    let _watchdog = Watchdog::start("closed by another", WATCHDOG);
    let front = crate::served::Served::native("echo", |_| {});
    let mut own = Ws::open(front.address, "/ws");
    let named =
        own.ask(r#"{"type":"mcp","data":{"jsonrpc":"2.0","method":"openenv/session/create"}}"#);
    let session = &named["data"]["result"]["session_id"];
    let params = json!({ "session_id": session });
    let told = crate::client::rpc(front.address, "openenv/session/close", &params);
    assert_eq!(told["result"]["closed"], true);
    let told = own.frame();
    assert_eq!(told["data"]["code"], "SESSION_ERROR", "{told}");
    assert_eq!(own.came(), Came::Closed(1000));
}

/// What is lost under a named session is told to everybody who takes part.
#[test]
fn a_lost_session_is_told() {
    let _watchdog = Watchdog::start("a lost session", WATCHDOG);
    let stage = std::sync::Arc::new(crate::script::Stage::default());
    let options = envmill_front::Options::new(envmill_front::Description::default());
    let worker = crate::script::Script::new(std::sync::Arc::clone(&stage));
    let front = crate::served::Served::start(options, worker);
    let mut own = Ws::open(front.address, "/ws");
    own.ask(r#"{"type":"reset"}"#);
    let mut mcp = Ws::open(front.address, "/mcp");
    mcp.ask(&call("tools/call", r#"{"name":"count"}"#));
    let session = crate::client::create(front.address);
    let mut attached = Ws::open(front.address, &format!("/ws?session_id={session}"));
    attached.ask(r#"{"type":"reset"}"#);

    stage.lose_all.store(true, std::sync::atomic::Ordering::SeqCst);
    // The worker is looked at when something is asked.
    let _ = crate::client::rpc(front.address, "ping", &json!({}));
    let lost = json!({ "message": "the process died", "code": "SESSION_ERROR" });
    for socket in [&mut own, &mut attached] {
        assert_eq!(socket.frame()["data"], lost);
        assert_eq!(socket.came(), Came::Closed(1000));
    }
    let told = mcp.frame();
    assert_eq!(told["error"]["code"], -32000);
    assert_eq!(told["error"]["message"], "the process died");
    assert_eq!(mcp.came(), Came::Closed(1000));
    let told = crate::client::rpc(front.address, "ping", &json!({ "session_id": session }));
    assert_eq!(told["error"]["code"], -32602, "{told}");
}
