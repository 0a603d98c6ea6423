//! Calls that wait for one session.

use std::{
    io::Read as _,
    sync::{Arc, atomic::Ordering},
};

use envmill_front::{CALLS_MAX, Description, Options};
use envmill_testing::{Watchdog, wait_until};
use serde_json::json;

use crate::{
    client::{Ws, create, rpc, rpc_text, send},
    script::{Script, Stage},
    served::Served,
    twin::WATCHDOG,
};

#[test]
fn calls_wait_their_turn_and_no_more_than_may() {
    let _watchdog = Watchdog::start("waiting calls", WATCHDOG);
    let stage = Arc::new(Stage::default());
    let options = Options::new(Description::default());
    let front = Served::start(options, Script::new(Arc::clone(&stage)));
    let session = create(front.address);
    let mut attached = Ws::open(front.address, &format!("/ws?session_id={session}"));

    let slow = json!({ "session_id": session, "name": "slow", "arguments": { "s": 1.5 } });
    let slow = rpc_text("tools/call", &slow);
    let _slow = send(front.address, "POST", "/mcp", "", slow.as_bytes());
    wait_until("the session is busy", WATCHDOG, || !stage.calls.lock().unwrap().is_empty());
    let count = rpc_text("tools/call", &json!({ "session_id": session, "name": "count" }));
    let mut waiting = Vec::new();
    for _ in 0..CALLS_MAX + 20 {
        waiting.push(send(front.address, "POST", "/mcp", "", count.as_bytes()));
    }
    // A socket has a place of its own.
    let stepped = attached.ask(r#"{"type":"step","data":{"tool_name":"count"}}"#);
    assert_eq!(stepped["type"], "observation", "{stepped}");

    let (mut counts, mut refused) = (Vec::new(), 0);
    for mut stream in waiting {
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        let told: serde_json::Value = serde_json::from_str(body).unwrap();
        match told["result"]["data"].as_u64() {
            Some(count) => counts.push(count),
            None => {
                assert_eq!(told["error"]["code"], -32000, "{told}");
                let message = told["error"]["message"].as_str().unwrap();
                assert!(message.contains("64 calls wait for it already"), "{message}");
                refused += 1;
            }
        }
    }
    assert_eq!((counts.len(), refused), (CALLS_MAX, 20));
    counts.sort_unstable();
    counts.dedup();
    assert_eq!(counts.len(), CALLS_MAX);

    // What waits when a session is closed is played first, as nobody told it otherwise.
    attached.close();
    wait_until("the session is closed", WATCHDOG, || {
        let told = rpc(front.address, "openenv/session/close", &json!({ "session_id": session }));
        told["result"]["closed"] == true || told.get("error").is_some()
    });
    wait_until("nothing is left", WATCHDOG, || stage.open.load(Ordering::SeqCst) == 0);
}
