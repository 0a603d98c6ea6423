//! A client that never pauses, beside others.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use envmill_front::{Description, Options, Placement};
use envmill_testing::Watchdog;

use crate::{client::Ws, script::Script, served::Served, twin::WATCHDOG};

#[test]
fn a_client_that_never_pauses_does_not_keep_others_from_the_worker() {
    let _watchdog = Watchdog::start("a flood", WATCHDOG);
    let mut options = Options::new(Description::default());
    options.placement = Placement::OwnThread;
    let front = Served::start(options, Script::new(std::sync::Arc::default()));
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut flood = Ws::open(front.address, "/ws");
            while !is_over.load(Ordering::Relaxed) {
                // The front answers these by itself, and the worker is never asked.
                for _ in 0..64 {
                    flood.send("nonsense");
                }
                for _ in 0..64 {
                    flood.frame();
                }
            }
        });
        let mut other = Ws::open(front.address, "/ws");
        for _ in 0..200 {
            assert_eq!(other.ask(r#"{"type":"state"}"#)["type"], "state");
        }
        is_over.store(true, Ordering::Relaxed);
    });
}
