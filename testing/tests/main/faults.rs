//! Each fault does what it says, to a real WebSocket client and a real WebSocket server.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::TcpStream,
    time::{Duration, Instant},
};

use envmill_testing::{
    Effect, Fault, FaultProxy, FrameEffect, Frames, HttpAnswer, Plan, Point, Watchdog, wait_until,
};
use tungstenite::{Error, error::ProtocolError};

use crate::echo::{connect, echo_server, exchange};

/// How long a client waits where an answer is expected.
const PATIENT: Duration = Duration::from_secs(60);

/// How long it waits where none must come.
const BRIEF: Duration = Duration::from_millis(200);

fn proxy(fault: Fault) -> (FaultProxy, Watchdog) {
    let watchdog = Watchdog::start(&format!("{fault:?}"), Duration::from_secs(300));
    let proxy = FaultProxy::start(echo_server()).unwrap();
    proxy.set(fault);
    (proxy, watchdog)
}

fn is_timeout(error: &Error) -> bool {
    matches!(error, Error::Io(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut))
}

fn is_reset(error: &Error) -> bool {
    matches!(error, Error::Io(e) if e.kind() == ErrorKind::ConnectionReset)
}

fn is_end(error: &Error) -> bool {
    matches!(error, Error::Protocol(ProtocolError::ResetWithoutClosingHandshake))
}

#[test]
fn without_a_fault_everything_passes() {
    let (proxy, _watchdog) = proxy(Fault::Pass);
    let mut socket = connect(proxy.address(), PATIENT).unwrap();
    for length in [0, 1, 125, 126, 65_535, 65_536, 3_000_000] {
        let text = "é".repeat(length / 2);
        assert_eq!(exchange(&mut socket, &text).unwrap(), text);
    }
    assert_eq!((proxy.counts().open, proxy.counts().struck), (1, 0));
    drop(socket);
    wait_until("the proxy lets go of it", PATIENT, || proxy.counts().open == 0);
}

#[test]
fn a_cut_is_a_reset_at_its_frame() {
    let (proxy, _watchdog) = proxy(Fault::At(Point::Frame(2), Effect::Cut));
    let mut socket = connect(proxy.address(), PATIENT).unwrap();
    assert_eq!(exchange(&mut socket, "0").unwrap(), "0");
    assert_eq!(exchange(&mut socket, "1").unwrap(), "1");
    let error = exchange(&mut socket, "2").unwrap_err();
    assert!(is_reset(&error), "{error:?}");
    assert_eq!(proxy.counts().struck, 1);
}

#[test]
fn a_cut_after_bytes_lets_exactly_those_pass() {
    let (proxy, _watchdog) = proxy(Fault::At(Point::Byte(20), Effect::HalfClose));
    let mut stream = TcpStream::connect(proxy.address()).unwrap();
    stream.set_read_timeout(Some(PATIENT)).unwrap();
    let request = "GET /ws HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                   Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "HTTP/1.1 101 Switchi");
}

#[test]
fn random_cuts_strike_below_their_bound() {
    let (proxy, _watchdog) = proxy(Fault::Pass);
    let cuts = vec![(1, Fault::At(Point::AnyFrame(5), Effect::Cut))];
    proxy.set_plan(Plan::Random { seed: 1, faults: cuts });
    let survived: Vec<usize> = (0..12)
        .map(|_| {
            let mut socket = connect(proxy.address(), PATIENT).unwrap();
            (0..10).take_while(|_| exchange(&mut socket, "x").is_ok()).count()
        })
        .collect();
    assert!(survived.iter().all(|frames| *frames < 5), "{survived:?}");
    assert!(survived.iter().any(|frames| *frames != survived[0]), "{survived:?}");
}

#[test]
fn a_half_close_is_an_end_without_a_close_frame() {
    let (proxy, _watchdog) = proxy(Fault::At(Point::Frame(1), Effect::HalfClose));
    let mut socket = connect(proxy.address(), PATIENT).unwrap();
    assert_eq!(exchange(&mut socket, "0").unwrap(), "0");
    let error = exchange(&mut socket, "1").unwrap_err();
    assert!(is_end(&error), "{error:?}");
}

#[test]
fn a_truncated_frame_ends_within() {
    let (proxy, _watchdog) = proxy(Fault::Frames(Frames::Only(1), FrameEffect::Truncate));
    let mut socket = connect(proxy.address(), PATIENT).unwrap();
    let text = "x".repeat(1000);
    assert_eq!(exchange(&mut socket, &text).unwrap(), text);
    let error = exchange(&mut socket, &text).unwrap_err();
    assert!(is_end(&error), "{error:?}");
}

#[test]
fn a_black_hole_accepts_and_never_upgrades() {
    let (proxy, _watchdog) = proxy(Fault::At(Point::Accept, Effect::BlackHole));
    let error = connect(proxy.address(), BRIEF).unwrap_err();
    assert!(is_timeout(&error), "{error:?}");
    wait_until("it ends with its client", PATIENT, || proxy.counts().open == 0);
}

#[test]
fn a_black_hole_in_mid_session_swallows_both_ways() {
    let (proxy, _watchdog) = proxy(Fault::At(Point::Frame(1), Effect::BlackHole));
    let mut socket = connect(proxy.address(), BRIEF).unwrap();
    assert_eq!(exchange(&mut socket, "0").unwrap(), "0");
    for text in ["1", "2"] {
        let error = exchange(&mut socket, text).unwrap_err();
        assert!(is_timeout(&error), "{error:?}");
    }
    assert_eq!(proxy.counts().open, 1);
}

#[test]
fn an_upgrade_gets_another_answer() {
    for answer in [
        HttpAnswer::status(301).header("Location", "http://127.0.0.1:9/ws"),
        HttpAnswer::status(401),
        HttpAnswer::status(403),
        HttpAnswer::status(429).header("Retry-After", "2"),
        HttpAnswer::status(503).header("Retry-After", "1"),
        HttpAnswer::html("<html><body>This Space is sleeping</body></html>"),
    ] {
        let (proxy, _watchdog) = proxy(Fault::Answer(answer.clone()));
        match connect(proxy.address(), PATIENT).unwrap_err() {
            Error::Http(response) => {
                assert_eq!(response.status().as_u16(), answer.status);
                for (name, value) in &answer.headers {
                    assert_eq!(response.headers()[name], value.as_str());
                }
                let body = response.body().clone().unwrap_or_default();
                assert!(answer.body.as_bytes().starts_with(&body));
            }
            other => panic!("{answer:?}: {other:?}"),
        }
    }
}

#[test]
fn a_held_frame_comes_late_and_once() {
    let hold = Duration::from_millis(600);
    let (proxy, _watchdog) = proxy(Fault::Frames(Frames::Only(0), FrameEffect::Hold(hold)));
    let mut socket = connect(proxy.address(), BRIEF).unwrap();
    let asked = Instant::now();
    assert!(is_timeout(&exchange(&mut socket, "late").unwrap_err()));
    socket.get_mut().set_read_timeout(Some(PATIENT)).unwrap();
    // The answer to the next request is the late one: the socket is poisoned, as with a real server.
    assert_eq!(exchange(&mut socket, "next").unwrap(), "late");
    assert!(asked.elapsed() >= hold);
    assert_eq!(socket.read().unwrap().to_text().unwrap(), "next");
}

#[test]
fn a_slow_line_holds_every_frame() {
    let hold = Duration::from_millis(30);
    let (proxy, _watchdog) = proxy(Fault::Frames(Frames::From(0), FrameEffect::Hold(hold)));
    let mut socket = connect(proxy.address(), PATIENT).unwrap();
    let start = Instant::now();
    for _ in 0..5 {
        assert_eq!(exchange(&mut socket, "x").unwrap(), "x");
    }
    assert!(start.elapsed() >= 5 * hold);
}

#[test]
fn a_frame_passes_twice() {
    let (proxy, _watchdog) = proxy(Fault::Frames(Frames::Only(1), FrameEffect::Duplicate));
    let mut socket = connect(proxy.address(), PATIENT).unwrap();
    for text in ["0", "1"] {
        assert_eq!(exchange(&mut socket, text).unwrap(), text);
    }
    assert_eq!(socket.read().unwrap().to_text().unwrap(), "1");
    assert_eq!(exchange(&mut socket, "2").unwrap(), "2");
}

#[test]
fn a_frame_vanishes() {
    let (proxy, _watchdog) = proxy(Fault::Frames(Frames::Only(0), FrameEffect::Drop));
    let mut socket = connect(proxy.address(), PATIENT).unwrap();
    socket.send("0".into()).unwrap();
    assert_eq!(exchange(&mut socket, "1").unwrap(), "1");
}

#[test]
fn corrupt_frames_are_no_websocket_or_no_text() {
    let (header, _watchdog) = proxy(Fault::Frames(Frames::Only(0), FrameEffect::CorruptHeader));
    let mut socket = connect(header.address(), PATIENT).unwrap();
    let error = exchange(&mut socket, "0").unwrap_err();
    assert!(matches!(error, Error::Protocol(ProtocolError::NonZeroReservedBits)), "{error:?}");

    let (payload, _watchdog) = proxy(Fault::Frames(Frames::Only(0), FrameEffect::CorruptPayload));
    let mut socket = connect(payload.address(), PATIENT).unwrap();
    let error = exchange(&mut socket, "{}").unwrap_err();
    assert!(matches!(error, Error::Utf8(_)), "{error:?}");

    let (garbled, _watchdog) = proxy(Fault::At(Point::Frame(1), Effect::Garble));
    let mut socket = connect(garbled.address(), PATIENT).unwrap();
    assert_eq!(exchange(&mut socket, "0").unwrap(), "0");
    // Long enough that the garbled length promises fewer bytes than come.
    let error = exchange(&mut socket, &"1".repeat(60)).unwrap_err();
    assert!(!is_timeout(&error), "{error:?}");
}

#[test]
fn a_drip_brings_everything_in_the_end() {
    let drip = Effect::Drip { bytes: 7, rest: Duration::from_millis(1) };
    let (proxy, _watchdog) = proxy(Fault::At(Point::Accept, drip));
    let mut socket = connect(proxy.address(), PATIENT).unwrap();
    let text = "drip".repeat(100);
    assert_eq!(exchange(&mut socket, &text).unwrap(), text);
}

#[test]
fn a_message_nobody_sent_comes_first() {
    let bytes = 200_000_000;
    let (proxy, _watchdog) = proxy(Fault::Frames(Frames::Only(0), FrameEffect::Inject { bytes }));
    let mut socket = connect(proxy.address(), PATIENT).unwrap();
    let injected = exchange(&mut socket, "mine").unwrap();
    assert_eq!(injected.len() as u64, bytes);
    assert!(injected.starts_with(r#"{"type":"observation","#) && injected.ends_with("}}}"));
    assert_eq!(socket.read().unwrap().to_text().unwrap(), "mine");
}

#[test]
fn open_connections_are_struck_and_frozen_at_will() {
    let (proxy, _watchdog) = proxy(Fault::Pass);
    let mut socket = connect(proxy.address(), BRIEF).unwrap();
    assert_eq!(exchange(&mut socket, "0").unwrap(), "0");
    proxy.freeze();
    assert!(is_timeout(&exchange(&mut socket, "1").unwrap_err()));
    proxy.thaw();
    socket.get_mut().set_read_timeout(Some(PATIENT)).unwrap();
    assert_eq!(socket.read().unwrap().to_text().unwrap(), "1");
    proxy.strike(Effect::Cut);
    assert!(is_reset(&socket.read().unwrap_err()));
    wait_until("both sides are gone", PATIENT, || proxy.counts().open == 0);
}

#[test]
fn the_target_changes_for_those_who_come_later() {
    let (proxy, _watchdog) = proxy(Fault::Pass);
    let mut before = connect(proxy.address(), PATIENT).unwrap();
    // Nobody listens there: port 1 of the loopback interface.
    proxy.set_target(([127, 0, 0, 1], 1).into());
    connect(proxy.address(), PATIENT).unwrap_err();
    assert_eq!(exchange(&mut before, "still").unwrap(), "still");
}

#[test]
fn two_thousand_connections_stand_at_once() {
    let (proxy, _watchdog) = proxy(Fault::Pass);
    let mut sockets: Vec<_> =
        (0..2000).map(|_| connect(proxy.address(), PATIENT).unwrap()).collect();
    assert_eq!(proxy.counts().open, 2000);
    for socket in &mut sockets {
        assert_eq!(exchange(socket, "x").unwrap(), "x");
    }
    drop(sockets);
    wait_until("all are let go", PATIENT, || proxy.counts().open == 0);
}
