//! Whatever a client sends, it gets an answer: a handler that panicked would drop its connection.

use envmill_testing::Watchdog;

use crate::{
    client::{Came, Ws, ask},
    served::Served,
    twin::WATCHDOG,
};

const RPC: &str =
    r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"session_id":"x","name":"y"}}"#;
const QUESTION: &str = r#"{"split":"a","index":" -1_0.0","start":null,"x":[]}"#;

/// Every beginning of a text, and the text with each of its bytes replaced.
fn damaged(text: &str) -> Vec<Vec<u8>> {
    let bytes = text.as_bytes();
    let beginnings = (0..bytes.len()).map(|end| bytes[..end].to_vec());
    let replaced = (0..bytes.len()).flat_map(|at| {
        [b'"', b'{', b'}', b'0', b'\\', 0, 0xFF].map(|byte| {
            let mut bytes = bytes.to_vec();
            bytes[at] = byte;
            bytes
        })
    });
    beginnings.chain(replaced).collect()
}

#[test]
fn damaged_bodies_are_answered() {
    let _watchdog = Watchdog::start("damaged bodies", WATCHDOG);
    let served = Served::native("echo", |_| {});
    for body in damaged(RPC) {
        let answer = ask(served.address, "POST", "/mcp", &body);
        assert_eq!(answer.status, 200, "{}", body.escape_ascii());
        assert_eq!(answer.json()["jsonrpc"], "2.0");
    }
    for body in damaged(QUESTION) {
        for path in ["/echo/task", "/echo/task_range", "/reset", "/step"] {
            let status = ask(served.address, "POST", path, &body).status;
            assert!(
                matches!(status, 200 | 400 | 422 | 501),
                "{path} {}: {status}",
                body.escape_ascii()
            );
        }
    }
}

#[test]
fn damaged_frames_are_answered() {
    let _watchdog = Watchdog::start("damaged frames", WATCHDOG);
    let served = Served::native("echo", |_| {});
    let frame = format!(r#"{{"type":"mcp","data":{RPC}}}"#);
    for (path, text) in [("/mcp", RPC), ("/ws", &*frame)] {
        let mut socket = Ws::open(served.address, path);
        for bytes in damaged(text) {
            let Ok(text) = String::from_utf8(bytes) else { continue };
            socket.send(&text);
            match socket.came() {
                Came::Frame(frame) if frame["data"]["code"] == "SESSION_ERROR" => {}
                Came::Frame(frame) if frame["error"]["code"] == -32000 => {}
                Came::Frame(_) => continue,
                Came::Closed(code) => panic!("{text}: closed with {code}"),
            }
            assert_eq!(socket.came(), Came::Closed(1000), "{text}");
            socket = Ws::open(served.address, path);
        }
    }
}

/// A great many keys are looked at in a time that grows with their number, and answered briefly.
#[test]
fn a_great_many_keys_are_answered_briefly() {
    let _watchdog = Watchdog::start("many keys", WATCHDOG);
    let served = Served::native("echo", |_| {});
    let many: String = (0..500_000).map(|key| format!(r#","{}":0"#, key % 250_000)).collect();
    let question = format!(r#"{{"split":"a"{many}}}"#);
    let answer = ask(served.address, "POST", "/echo/tasks", question.as_bytes());
    assert_eq!(answer.status, 422);
    assert!(answer.body.len() < 4096, "{}", answer.body.len());
    let request = format!(r#"{{"jsonrpc":"2.0","method":"ping"{many}}}"#);
    let answer = ask(served.address, "POST", "/mcp", request.as_bytes());
    assert!(answer.body.len() < 4096, "{}", answer.body.len());
}
