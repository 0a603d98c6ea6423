//! How sessions end when we end them.

use std::{sync::mpsc, thread};

use envmill_protocol::{Outcome, Request};

use crate::{
    peer::Server,
    rig::{OPEN, Rig, WATCHDOG, reset},
};

#[test]
fn an_idle_session_says_goodbye_twice() {
    let (report, seen) = mpsc::channel();
    let server = Server::upgraded(move |mut peer| {
        while let Some(frame) = peer.receive() {
            report.send((frame.opcode, frame.payload)).unwrap();
        }
        report.send((0, b"gone".to_vec())).unwrap();
    });
    let mut rig = Rig::open(server.url());
    assert_eq!(rig.ask(0, Request::Close), Outcome::Closed);
    assert_eq!(seen.recv_timeout(WATCHDOG).unwrap(), (1, br#"{"type":"close"}"#.to_vec()));
    assert_eq!(seen.recv_timeout(WATCHDOG).unwrap(), (8, 1000u16.to_be_bytes().to_vec()));
    // This server never closes its end; it is waited for, but not for ever.
    assert_eq!(rig.metrics().sockets_closing, 1);
    rig.until(|rig| rig.metrics().sockets_closing == 0);
    assert_eq!(seen.recv_timeout(WATCHDOG).unwrap().1, b"gone");
}

#[test]
fn lingering_sockets_are_bounded() {
    let server = Server::upgraded(|mut peer| peer.drain());
    let mut rig = Rig::new(server.url());
    for _ in 0..1100 {
        assert_eq!(rig.ask(0, OPEN), Outcome::Opened);
        assert_eq!(rig.ask(0, Request::Close), Outcome::Closed);
        assert!(rig.metrics().sockets_closing <= 1024);
    }
}

#[test]
fn a_close_is_answered_whatever_there_is() {
    let server = Server::upgraded(|mut peer| {
        let _ = peer.request();
        thread::park_timeout(WATCHDOG);
    });
    let mut rig = Rig::new(server.url());
    assert_eq!(rig.ask(0, Request::Close), Outcome::Closed, "nothing");
    rig.submit(0, OPEN);
    assert_eq!(rig.ask(0, Request::Close), Outcome::Closed, "while opening");
    assert_eq!(rig.ask(0, OPEN), Outcome::Opened);
    rig.submit(0, reset());
    assert_eq!(rig.ask(0, Request::Close), Outcome::Closed, "while busy");
    assert_eq!(rig.ask(0, Request::Close), Outcome::Closed, "again");
    rig.assert_quiet();
}
