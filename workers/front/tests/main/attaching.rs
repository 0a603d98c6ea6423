//! `/ws?session_id=…`, beside a stock server.

use envmill_testing::Watchdog;
use serde_json::{Value, json};

use crate::{
    client::{Came, rpc_text},
    twin::{self, NONE, Twin, WATCHDOG},
};

const ATTACH: &str = "/ws?session_id=$S";

fn count(twin: &Twin, sessions: &[String; 2]) -> Value {
    let params = json!({ "name": "count", "session_id": "$S" });
    twin.same_of(sessions, "/mcp", &rpc_text("tools/call", &params))["result"]["data"].clone()
}

fn close(twin: &Twin, sessions: &[String; 2]) -> Value {
    let params = json!({ "session_id": "$S" });
    twin.same_of(sessions, "/mcp", &rpc_text("openenv/session/close", &params))["result"].clone()
}

#[test]
fn a_socket_and_http_share_a_session() {
    let _watchdog = Watchdog::start("attaching", WATCHDOG);
    let twin = twin::shared();
    let sessions = twin.sessions();
    assert_eq!(count(twin, &sessions), 1);
    let mut attached = twin.sockets(&sessions, ATTACH);
    attached.ask(r#"{"type":"reset","data":{"episode_id":"att"}}"#);
    attached.ask(r#"{"type":"step","data":{"type":"call_tool","tool_name":"count"}}"#);
    assert_eq!(count(twin, &sessions), 3);
    attached.ask(r#"{"type":"state"}"#);
    let own = rpc_text("openenv/session/create", &json!({}));
    attached.ask(&format!(r#"{{"type":"mcp","data":{own}}}"#));
    let own = rpc_text("openenv/session/close", &json!({ "session_id": "$S" }));
    attached.ask(&format!(r#"{{"type":"mcp","data":{own}}}"#));
    attached.close();

    // Detaching is no end, and another may attach.
    let mut again = twin.reattached(&sessions);
    again.ask(r#"{"type":"state"}"#);
    again.send(r#"{"type":"close"}"#);
    assert_eq!(again.same(), Came::Closed(1000));
    assert_eq!(count(twin, &sessions), 4);
    twin.detached(&sessions);
    assert_eq!(close(twin, &sessions)["closed"], true);
}

#[test]
fn who_may_not_attach_is_told_alike() {
    let _watchdog = Watchdog::start("refused attaching", WATCHDOG);
    let twin = twin::shared();
    let mut unknown = twin.sockets(&NONE, "/ws?session_id=deadbeef");
    unknown.same();
    assert_eq!(unknown.same(), Came::Closed(1000));
    // No name is none, and gets a session of its own.
    let mut own = twin.sockets(&NONE, "/ws?session_id=");
    own.ask(r#"{"type":"state"}"#);
    own.close();

    let sessions = twin.sessions();
    let mut first = twin.sockets(&sessions, ATTACH);
    first.ask(r#"{"type":"state"}"#);
    let mut second = twin.sockets(&sessions, ATTACH);
    second.same();
    assert_eq!(second.same(), Came::Closed(1000));
    first.ask(r#"{"type":"state"}"#);
    first.close();
    twin.detached(&sessions);
    close(twin, &sessions);
}

#[test]
fn a_close_waits_until_the_socket_leaves() {
    let _watchdog = Watchdog::start("a pending close", WATCHDOG);
    let twin = twin::shared();
    let sessions = twin.sessions();
    let mut attached = twin.sockets(&sessions, ATTACH);
    attached.ask(r#"{"type":"state"}"#);
    for _ in 0..2 {
        let told = close(twin, &sessions);
        assert_eq!(told, json!({ "session_id": "$S", "closed": false, "closing": true }));
    }
    // It goes on meanwhile.
    assert_eq!(count(twin, &sessions), 1);
    attached.ask(r#"{"type":"state"}"#);
    attached.close();
    twin.ended(&sessions);
}
