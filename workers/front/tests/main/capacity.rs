//! A worker that refuses sessions, and what becomes of slots.

use std::sync::{Arc, atomic::Ordering};

use envmill_front::{Description, Options};
use envmill_testing::{Watchdog, wait_until};
use serde_json::{Value, json};

use crate::{
    client::{Came, Ws, create, rpc, send},
    script::{Script, Stage},
    served::Served,
    twin::WATCHDOG,
};

fn served(change: impl FnOnce(&mut Options)) -> (Served, Arc<Stage>) {
    let stage = Arc::new(Stage::default());
    let mut options =
        Options::new(Description { env_name: "FrontEnv".into(), ..Description::default() });
    change(&mut options);
    let script = Script::new(Arc::clone(&stage));
    (Served::start(options, script), stage)
}

/// What a refused socket is told, before it says anything.
fn refusal(front: &Served, path: &str) -> Value {
    let mut socket = Ws::open(front.address, path);
    let frame = socket.frame();
    assert_eq!(socket.came(), Came::Closed(1000));
    frame
}

#[test]
fn a_workers_own_limit_is_told_as_capacity() {
    let _watchdog = Watchdog::start("a worker's limit", WATCHDOG);
    let (front, stage) = served(|_| {});
    stage.sessions_max.store(1, Ordering::SeqCst);
    let mut first = Ws::open(front.address, "/ws");
    first.ask(r#"{"type":"reset"}"#);
    let told = "Server at capacity: 1/1 sessions active. Cannot accept new connections.";
    let numbers = json!({ "active_sessions": 1, "max_sessions": 1 });
    assert_eq!(
        refusal(&front, "/ws"),
        json!({ "type": "error", "data": {
            "message": told, "code": "CAPACITY_REACHED", "active_sessions": 1, "max_sessions": 1,
        }})
    );
    let error = json!({ "code": -32000, "message": told, "data": numbers });
    assert_eq!(refusal(&front, "/mcp")["error"], error);
    assert_eq!(rpc(front.address, "openenv/session/create", &json!({}))["error"], error);
    let told = rpc(front.address, "tools/list", &json!({}));
    assert_eq!(told["error"]["code"], -32000, "{told}");
    // Refused sessions hold nothing.
    first.close();
    wait_until("the worker has room", WATCHDOG, || stage.open.load(Ordering::SeqCst) == 0);
    Ws::open(front.address, "/ws").ask(r#"{"type":"reset"}"#);
}

#[test]
fn a_workers_factory_failure_is_told() {
    let _watchdog = Watchdog::start("a worker's factory", WATCHDOG);
    let (front, stage) = served(|options| options.max_sessions = 1);
    stage.factory_fails.store(true, Ordering::SeqCst);
    for _ in 0..3 {
        assert_eq!(
            refusal(&front, "/ws"),
            json!({ "type": "error", "data": {
                "message": "Environment factory 'FrontEnv' failed to create instance.",
                "code": "FACTORY_ERROR",
                "factory_name": "FrontEnv",
            }})
        );
        let told = rpc(front.address, "openenv/session/create", &json!({}));
        assert_eq!(told["error"]["data"], json!({ "factory_name": "FrontEnv" }));
    }
    stage.factory_fails.store(false, Ordering::SeqCst);
    // No slot was lost over it.
    wait_until("there is room", WATCHDOG, || {
        Ws::open(front.address, "/ws").ask(r#"{"type":"state"}"#)["type"] == "state"
    });
}

/// A caller who leaves while its environment is busy does not make room for another one.
#[test]
fn throw_away_environments_are_bounded() {
    let _watchdog = Watchdog::start("throw-away environments", WATCHDOG);
    let (front, stage) = served(|options| options.max_stateless = 2);
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"slow","arguments":{"s":0.3}}}"#;
    for _ in 0..6 {
        drop(send(front.address, "POST", "/mcp", "", body.as_bytes()));
    }
    let mut most = 0;
    wait_until("some were called", WATCHDOG, || {
        most = most.max(stage.open.load(Ordering::SeqCst));
        stage.calls.lock().unwrap().len() >= 2
    });
    let told = rpc(front.address, "tools/call", &json!({ "name": "count" }));
    assert_eq!(told["result"]["data"], 1);
    assert!(most <= 2, "{most}");
    wait_until("all have ended", WATCHDOG, || stage.open.load(Ordering::SeqCst) == 0);
}

#[test]
fn a_front_that_ends_closes_its_sessions() {
    let _watchdog = Watchdog::start("the end", WATCHDOG);
    let (front, _stage) = served(|_| {});
    let mut own = Ws::open(front.address, "/ws");
    own.ask(r#"{"type":"reset"}"#);
    let session = create(front.address);
    let mut attached = Ws::open(front.address, &format!("/ws?session_id={session}"));
    attached.ask(r#"{"type":"reset"}"#);
    let mut mcp = Ws::open(front.address, "/mcp");
    mcp.ask(r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#);
    front.stop();
    for socket in [&mut own, &mut attached, &mut mcp] {
        assert_eq!(socket.came(), Came::Closed(1012));
    }
}
