//! Sessions whose servers do what none should.

use std::{sync::mpsc, thread};

use envmill_openenv::{Options, Server as Target};
use envmill_protocol::{FailureKind, Outcome, Request, SessionFate};

use crate::{
    peer::{OBSERVATION, Peer, Server},
    rig::{OPEN, Rig, WATCHDOG, reset, step},
};

/// What a reset is answered with by a server that plays like this after it has read the request.
fn reset_against(play: impl Fn(&mut Peer) + Send + Sync + 'static) -> Outcome {
    let server = Server::upgraded(move |mut peer| {
        let _ = peer.request();
        play(&mut peer);
    });
    let mut rig = Rig::open(server.url());
    let outcome = rig.ask(0, reset());
    rig.assert_quiet();
    if matches!(&outcome, Outcome::Failed(failure) if failure.session == SessionFate::Lost) {
        rig.assert_gone(0);
        assert_eq!(rig.metrics().sockets_open, 0);
    }
    assert_eq!(rig.metrics().requests_in_flight, 0);
    outcome
}

fn failure_against(play: impl Fn(&mut Peer) + Send + Sync + 'static) -> (FailureKind, String) {
    match reset_against(play) {
        Outcome::Failed(failure) => (failure.kind, failure.message),
        other => panic!("{other:?}"),
    }
}

#[test]
fn broken_frames_lose_the_session() {
    for (first, payload, word) in [
        (0x82, &b"binary"[..], "binary"),
        (0xc1, b"reserved", "reserved"),
        (0x83, b"opcode", "opcode"),
        (0x80, b"continues", "continues nothing"),
        (0x81, b"\xff\xfe\xfd", "UTF-8"),
        (0x81, b"not json", "malformed"),
        (0x81, br#"{"type":"observation","data":{"reward":NaN}}"#, "malformed"),
        (0x81, br#"{"type":"state","data":{}}"#, "expected"),
    ] {
        let (kind, message) = failure_against(move |peer| {
            peer.send(first, payload);
            peer.drain();
        });
        assert_eq!(kind, FailureKind::Protocol, "{message}");
        assert!(message.contains(word), "{message}");
    }
}

#[test]
fn close_codes_are_passed_on() {
    for code in [1000, 1001, 1011, 1012, 4000] {
        let (kind, _) = failure_against(move |peer| peer.close(code));
        assert_eq!(kind, FailureKind::Closed { code });
    }
    let (kind, message) = failure_against(|peer| {
        let reason = [&1009u16.to_be_bytes()[..], b"frame exceeds limit"].concat();
        peer.send(0x88, &reason);
    });
    assert_eq!(kind, FailureKind::TooLarge);
    assert!(message.contains("frame exceeds limit"), "{message}");
    let (kind, _) = failure_against(|peer| peer.send(0x88, b""));
    assert_eq!(kind, FailureKind::Closed { code: 1005 });
}

#[test]
fn the_close_frame_is_answered() {
    let (report, seen) = mpsc::channel();
    let _ = failure_against(move |peer| {
        peer.close(1011);
        report.send(peer.receive()).unwrap();
    });
    let answer = seen.recv_timeout(WATCHDOG).unwrap().unwrap();
    assert_eq!((answer.opcode, answer.payload), (8, 1011u16.to_be_bytes().to_vec()));
}

#[test]
fn connections_cut_anywhere_lose_the_session() {
    let whole = Peer::frame(0x81, OBSERVATION.as_bytes());
    for cut in [0, 1, 2, whole.len() / 2, whole.len() - 1] {
        let part = whole[..cut].to_vec();
        let (kind, _) = failure_against(move |peer| peer.write(&part));
        assert_eq!(kind, FailureKind::Disconnected, "cut at {cut}");
    }
}

#[test]
fn an_answer_right_before_the_end_counts() {
    let server = Server::upgraded(|mut peer| {
        let _ = peer.request();
        peer.text(OBSERVATION);
        peer.close(1012);
    });
    let mut rig = Rig::open(server.url());
    assert!(matches!(rig.ask(0, reset()), Outcome::Reset(_)));
    assert_eq!(rig.lost_idle(0).kind, FailureKind::Closed { code: 1012 });
    rig.assert_gone(0);
}

#[test]
fn error_frames_keep_or_lose_the_session_as_the_protocol_says() {
    let server = Server::upgraded(|mut peer| {
        for code in ["VALIDATION_ERROR", "EXECUTION_ERROR", "UNKNOWN_TYPE", "SESSION_ERROR"] {
            let _ = peer.request();
            peer.text(&format!(r#"{{"type":"error","data":{{"message":"no","code":"{code}"}}}}"#));
        }
        peer.close(1000);
    });
    let mut rig = Rig::open(server.url());
    for kind in [FailureKind::Invalid, FailureKind::Environment, FailureKind::Refused] {
        let outcome = rig.ask(0, step());
        let Outcome::Failed(failure) = outcome else { panic!("{outcome:?}") };
        assert_eq!((failure.kind, failure.session), (kind, SessionFate::Kept));
    }
    assert_eq!(rig.lost(0, step()).kind, FailureKind::Session);
    rig.assert_gone(0);
}

#[test]
fn a_doubled_answer_is_never_taken_for_the_next() {
    let server = Server::upgraded(|mut peer| {
        let _ = peer.request();
        let frame = Peer::frame(0x81, OBSERVATION.as_bytes());
        peer.write(&[&frame[..], &frame[..]].concat());
        peer.drain();
    });
    let mut rig = Rig::open(server.url());
    assert!(matches!(rig.ask(0, reset()), Outcome::Reset(_)));
    let failure = rig.lost_idle(0);
    assert_eq!(failure.kind, FailureKind::Protocol);
    assert!(failure.message.contains("out of step"), "{failure}");
}

#[test]
fn an_unasked_message_loses_an_idle_session() {
    for (message, kind) in [
        (OBSERVATION, FailureKind::Protocol),
        (
            r#"{"type":"error","data":{"message":"x","code":"EXECUTION_ERROR"}}"#,
            FailureKind::Protocol,
        ),
        (r#"{"type":"error","data":{"message":"x","code":"SESSION_ERROR"}}"#, FailureKind::Session),
    ] {
        let server = Server::upgraded(move |mut peer| {
            let _ = peer.answer_one();
            peer.text(message);
            peer.drain();
        });
        let mut rig = Rig::open(server.url());
        assert!(matches!(rig.ask(0, reset()), Outcome::Reset(_)));
        assert_eq!(rig.lost_idle(0).kind, kind);
    }
}

#[test]
fn idle_sessions_answer_pings_and_notice_their_end() {
    let (report, seen) = mpsc::channel();
    let server = Server::upgraded(move |mut peer| {
        let _ = peer.answer_one();
        for payload in [&b""[..], b"x", &[7; 125]] {
            peer.send(0x89, payload);
            report
                .send(
                    peer.receive().unwrap()
                        == (crate::peer::Frame { opcode: 10, payload: payload.to_vec() }),
                )
                .unwrap();
        }
    });
    let mut rig = Rig::open(server.url());
    assert!(matches!(rig.ask(0, reset()), Outcome::Reset(_)));
    assert_eq!(rig.lost_idle(0).kind, FailureKind::Disconnected);
    assert_eq!(seen.iter().take(3).collect::<Vec<_>>(), [true; 3]);
    assert_eq!(rig.lost(0, step()).kind, FailureKind::Disconnected);
}

#[test]
fn a_server_that_never_answers_is_cut_at_the_close() {
    let (report, seen) = mpsc::channel();
    let server = Server::upgraded(move |mut peer| {
        let _ = peer.request();
        report.send(()).unwrap();
        assert_eq!(peer.receive(), None, "no goodbye may queue behind a running step");
        // A late answer goes nowhere.
        peer.text(OBSERVATION);
        report.send(()).unwrap();
    });
    let mut rig = Rig::open(server.url());
    rig.submit(0, reset());
    rig.until(|_| seen.try_recv().is_ok());
    rig.assert_quiet();
    assert_eq!(rig.metrics().requests_in_flight, 1);
    assert_eq!(rig.ask(0, Request::Close), Outcome::Closed);
    assert_eq!(rig.metrics().requests_in_flight, 0);
    assert_eq!(rig.ask(0, OPEN), Outcome::Opened, "the slot is free at once");
    seen.recv_timeout(WATCHDOG).unwrap();
    rig.assert_quiet();
}

#[test]
fn two_hundred_megabytes_are_refused_at_the_header() {
    let (kind, message) = failure_against(|peer| {
        let mut head = vec![0x81, 127];
        head.extend_from_slice(&(200u64 << 20).to_be_bytes());
        peer.write(&head);
        let block = vec![b'x'; 1 << 20];
        for _ in 0..200 {
            peer.write(&block);
        }
    });
    assert_eq!(kind, FailureKind::TooLarge);
    assert!(message.contains("67108864"), "{message}");
}

#[test]
fn messages_up_to_the_limit_are_taken() {
    let server = Server::upgraded(|mut peer| {
        while peer.request().is_some() {
            let pad = "x".repeat(3_000_000);
            peer.text(&OBSERVATION.replace("\"n\":1", &format!("\"n\":\"{pad}\"")));
        }
    });
    let mut rig = Rig::open(server.url());
    let Outcome::Reset(observed) = rig.ask(0, reset()) else { panic!() };
    assert_eq!(observed.observation.len(), 3_000_000 + r#"{"n":""}"#.len());

    let mut options = Options::new(vec![Target::new(server.url())]);
    options.message_bytes_max = 2_000_000;
    let mut rig = Rig::with(options);
    assert_eq!(rig.ask(0, OPEN), Outcome::Opened);
    assert_eq!(rig.lost(0, reset()).kind, FailureKind::TooLarge);
}

#[test]
fn a_flood_of_pings_does_not_keep_others_from_their_turn() {
    let server = Server::upgraded(|mut peer| {
        if peer.number > 0 {
            while peer.answer_one() {}
            return;
        }
        let pings = Peer::frame(0x89, &[1; 100]).repeat(1000);
        let mut reading = peer.stream.try_clone().unwrap();
        thread::spawn(move || std::io::copy(&mut reading, &mut std::io::sink()));
        use std::io::Write as _;
        while peer.stream.write_all(&pings).is_ok() {}
    });
    let mut rig = Rig::open(server.url());
    assert_eq!(rig.ask(1, OPEN), Outcome::Opened);
    assert!(matches!(rig.ask(1, reset()), Outcome::Reset(_)));
    for _ in 0..20 {
        assert!(matches!(rig.ask(1, step()), Outcome::Stepped(_)));
    }
    assert_eq!(rig.ask(0, Request::Close), Outcome::Closed);
    assert_eq!(rig.ask(1, Request::Close), Outcome::Closed);
}

#[test]
fn a_server_that_pings_and_never_reads_costs_no_memory() {
    let (report, seen) = mpsc::channel();
    let server = Server::upgraded(move |mut peer| {
        let pings = Peer::frame(0x89, &[1; 125]).repeat(1000);
        for _ in 0..400 {
            peer.write(&pings);
        }
        report.send(()).unwrap();
        // Held open, unread.
        let _ = peer.stream.set_read_timeout(Some(WATCHDOG));
        thread::park_timeout(WATCHDOG);
    });
    let mut rig = Rig::open(server.url());
    rig.until(|_| seen.try_recv().is_ok());
    rig.until(|rig| rig.metrics().bytes_in > 400 * 127_000);
    // What went out is what the kernel took; what waits is bounded by the source.
    assert!(rig.metrics().bytes_out < rig.metrics().bytes_in);
    assert_eq!(rig.ask(0, Request::Close), Outcome::Closed);
}
