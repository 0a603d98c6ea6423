//! Sessions that are idle for too long.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use envmill_front::{Description, Options};
use envmill_testing::{Watchdog, wait_until};
use serde_json::json;

use crate::{
    client::{Came, Ws, create, rpc},
    script::{Script, Stage},
    served::Served,
    twin::WATCHDOG,
};

const TIMEOUT: Duration = Duration::from_millis(200);

#[test]
fn idle_sessions_end_and_others_do_not() {
    let _watchdog = Watchdog::start("idle sessions", WATCHDOG);
    let stage = Arc::new(Stage::default());
    let mut options = Options::new(Description::default());
    options.session_timeout = Some(TIMEOUT);
    let front = Served::start(options, Script::new(Arc::clone(&stage)));

    let attached_to = create(front.address);
    let mut attached = Ws::open(front.address, &format!("/ws?session_id={attached_to}"));
    attached.ask(r#"{"type":"reset"}"#);
    // A step that takes longer than the limit is no idleness.
    let busy = create(front.address);
    let params = json!({ "session_id": busy, "name": "slow", "arguments": { "s": 5.0 * TIMEOUT.as_secs_f64() } });
    let told = rpc(front.address, "tools/call", &params);
    assert_eq!(told["result"]["data"], "slow done");

    let idle = create(front.address);
    let mut own = Ws::open(front.address, "/ws");
    own.ask(r#"{"type":"reset"}"#);
    let told = own.frame();
    assert_eq!(told["data"]["code"], "SESSION_ERROR", "{told}");
    assert_eq!(own.came(), Came::Closed(1000));
    // Being asked for its name would make it busy; that it is gone is seen at the worker.
    wait_until("only the attached one is left", WATCHDOG, || {
        stage.open.load(Ordering::SeqCst) == 1
    });
    for session in [&idle, &busy] {
        let told = rpc(front.address, "tools/list", &json!({ "session_id": session }));
        assert_eq!(told["error"]["message"], format!("Unknown session_id: {session}"));
    }
    attached.ask(r#"{"type":"state"}"#);
    attached.close();
    wait_until("it has ended too", WATCHDOG, || stage.open.load(Ordering::SeqCst) == 0);
}
