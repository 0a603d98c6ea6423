//! Production mode, beside a stock server; both with an environment that has neither tools nor tasks.

use envmill_testing::Watchdog;
use serde_json::json;

use crate::{
    client::{ask, rpc_text},
    twin::{self, NONE, WATCHDOG},
};

#[test]
fn production_has_no_stateless_routes() {
    let _watchdog = Watchdog::start("production mode", WATCHDOG);
    let twin = twin::shared_in_production();
    for (method, path) in [
        ("POST", "/reset"),
        ("POST", "/step"),
        ("GET", "/state"),
        ("GET", "/reset"),
        ("POST", "/reset/"),
    ] {
        assert_eq!(twin.same(method, path, ""), 404, "{method} {path}");
    }
    for path in ["/health", "/metadata", "/list_environments"] {
        assert_eq!(twin.same("GET", path, ""), 200);
    }
    let paths = ask(twin.front.address, "GET", "/openapi.json", b"").json()["paths"].clone();
    assert!(paths.get("/reset").is_none() && paths.get("/mcp").is_some(), "{paths}");
}

#[test]
fn production_keeps_its_sockets() {
    let _watchdog = Watchdog::start("production mode", WATCHDOG);
    let twin = twin::shared_in_production();
    let mut sockets = twin.sockets(&NONE, "/ws");
    sockets.ask(r#"{"type":"mcp","data":{"jsonrpc":"2.0","id":1,"method":"tools/list"}}"#);
    sockets.close();
    // There is no agent of the server's own.
    for server in [twin.python.address(), twin.front.address] {
        assert_eq!(crate::client::Ws::try_open(server, "/harness").err(), Some(403));
    }
}

#[test]
fn without_tools_and_tasks() {
    let _watchdog = Watchdog::start("a bare environment", WATCHDOG);
    let twin = twin::shared_in_production();
    for (method, params) in [
        ("tools/list", json!({})),
        ("tools/call", json!({ "name": "add" })),
        ("tools/call", json!({})),
        ("ping", json!({})),
    ] {
        twin.same("POST", "/mcp", &rpc_text(method, &params));
    }
    assert_eq!(twin.same("GET", "/front/splits", ""), 501);
    for question in ["tasks", "num_tasks", "task_range"] {
        let path = format!("/front/{question}");
        assert_eq!(twin.same("POST", &path, r#"{"split":"a"}"#), 501);
    }
    assert_eq!(twin.same("POST", "/front/task", r#"{"split":"a","index":0}"#), 501);
}
