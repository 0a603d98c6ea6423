//! The stock Python clients.

use std::{
    net::SocketAddr,
    process::{Command, Stdio},
};

use envmill_front::Placement;
use envmill_testing::{NEWEST, Watchdog, python, script, stock_client_flow, wait_until};
use serde_json::{Value, json};

use crate::{
    client::{Came, Ws, ask, create, rpc},
    served::Served,
    twin::{self, WATCHDOG},
};

fn run(name: &str, arguments: &[&str]) -> String {
    let output = Command::new(python().unwrap())
        .arg(script(name))
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name} {arguments:?}:\n{stderr}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_generic_client_plays() {
    let _watchdog = Watchdog::start("the stock client", WATCHDOG);
    for placement in [Placement::SameThread, Placement::OwnThread] {
        let served = Served::native("echo", |options| options.placement = placement);
        let action = json!({ "message": "hello" });
        let flow = stock_client_flow(NEWEST, &served.url(), &action, 3, 4).unwrap();
        for session in flow["sessions"].as_array().unwrap() {
            for episode in session["episodes"].as_array().unwrap() {
                assert_eq!(episode["steps"][2]["observation"]["echoed_message"], "hello");
                assert_eq!(episode["state"]["step_count"], 3);
            }
        }
    }
}

/// The client of tools, which attaches a socket to a session that it made over HTTP, sees the same on
/// both.
#[test]
fn the_client_of_tools_sees_the_same() {
    let _watchdog = Watchdog::start("the stock client of tools", WATCHDOG);
    let twin = twin::shared();
    let [expected, got] = [twin.python.url(), twin.front.url()].map(|url| {
        let seen = run("mcp_client_flow.py", &[&url]);
        serde_json::from_str::<Value>(&seen).unwrap_or_else(|_| panic!("{seen}"))
    });
    assert_eq!(got, expected);
    assert_eq!(got["counts"], json!([1, 2]));
    assert_eq!(got["count after"], 4);
}

/// Every endpoint of a front over a native environment.
#[test]
fn a_native_environment_answers_everywhere() {
    let _watchdog = Watchdog::start("every endpoint", WATCHDOG);
    for placement in [Placement::SameThread, Placement::OwnThread] {
        let served = Served::native("echo", |options| options.placement = placement);
        answers_everywhere(served.address);
    }
}

fn answers_everywhere(server: SocketAddr) {
    let get = |path: &str| {
        let answer = ask(server, "GET", path, b"");
        assert_eq!(answer.status, 200, "{path}");
        answer.json()
    };
    assert_eq!(get("/health")["status"], "healthy");
    assert_eq!(get("/metadata")["name"], "echo");
    assert_eq!(get("/schema")["reset_observation"], get("/schema")["observation"]);
    assert_eq!(get("/list_environments"), json!(["echo"]));
    assert_eq!(get("/openapi.json")["info"]["version"], "1.0.0");
    assert_eq!(get("/state")["step_count"], 0);
    let post = |path: &str, body: &str| ask(server, "POST", path, body.as_bytes()).json();
    assert_eq!(post("/reset", "{}")["done"], false);
    let stepped = post("/step", r#"{"action":{"message":"hi"}}"#);
    assert_eq!(stepped["observation"]["echoed_message"], "hi");

    let told = rpc(server, "tools/list", &json!({}));
    assert_eq!(told["error"]["message"], "Environment does not support MCP");
    let told = rpc(server, "initialize", &json!({}));
    assert_eq!(told["error"]["message"], "Method not found: initialize");
    let session = create(server);
    let mut attached = Ws::open(server, &format!("/ws?session_id={session}"));
    attached.ask(r#"{"type":"reset","data":{"episode_id":"a"}}"#);
    attached.ask(r#"{"type":"step","data":{"message":"hi"}}"#);
    assert_eq!(attached.ask(r#"{"type":"state"}"#)["data"]["step_count"], 1);
    attached.send(r#"{"type":"close"}"#);
    assert_eq!(attached.came(), Came::Closed(1000));
    let mut again = Ws::open(server, &format!("/ws?session_id={session}"));
    let state = again.ask(r#"{"type":"state"}"#);
    assert_eq!(state["data"], json!({ "episode_id": "a", "step_count": 1 }));
    let mut mcp = Ws::open(server, "/mcp");
    let told = mcp.ask(r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#);
    assert_eq!(told["error"]["code"], -32603);
    again.close();
    // It may take a moment until the front has seen the socket go.
    let close = || rpc(server, "openenv/session/close", &json!({ "session_id": session }));
    wait_until("the session is closed", WATCHDOG, || {
        let told = close();
        told["result"]["closed"] == true || told["error"]["code"] == -32602
    });
    assert_eq!(close()["error"]["code"], -32602);
    for path in ["/harness", "/nosuch", "/ws/", "/health"] {
        assert_eq!(Ws::try_open(server, path).err(), Some(403), "{path}");
    }
}
