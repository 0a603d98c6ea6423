//! What happens when all goes well.

use std::{
    io::Write as _,
    net::TcpListener,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use envmill_openenv::{Options, Server as Target};
use envmill_protocol::{Command, FailureKind, Generation, Outcome, Request, ServerId, Slot};
use envmill_workers::Worker as _;
use tungstenite::Message;

use crate::{
    peer::{OBSERVATION, Peer, Server},
    rig::{OPEN, Rig, WATCHDOG, reset, step},
};

#[test]
fn a_session_lives_from_open_to_close() {
    let server = Server::environment();
    let mut rig = Rig::open(server.url());
    let Outcome::Reset(observed) = rig.ask(0, reset()) else { panic!() };
    assert_eq!(observed.observation, r#"{"n":1}"#);
    assert_eq!((observed.reward.value, observed.reward.raw), (Some(0.5), "0.5".into()));
    assert_eq!(observed.ended, None);
    for _ in 0..3 {
        assert!(matches!(rig.ask(0, step()), Outcome::Stepped(_)));
    }
    assert_eq!(
        rig.ask(0, Request::State),
        Outcome::State(r#"{"episode_id":null,"step_count":3}"#.into())
    );
    let call = Request::ToolCall { request: Bytes::from_static(br#"{"jsonrpc":"2.0","id":1}"#) };
    assert!(matches!(rig.ask(0, call), Outcome::ToolResult(_)));
    assert_eq!(rig.metrics().requests_in_flight, 0);
    assert_eq!(rig.metrics().requests_in_flight_peak, 1);
    assert_eq!(rig.ask(0, Request::Close), Outcome::Closed);
    rig.until(|rig| rig.metrics().sockets_closing == 0);
    rig.assert_quiet();
    let metrics = rig.metrics();
    assert_eq!((metrics.sockets_open, metrics.sockets_open_peak), (0, 1));
    assert!(metrics.bytes_in > 500 && metrics.bytes_out > 300, "{metrics:?}");
}

#[test]
fn an_independent_implementation_understands_us() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}/some/base", listener.local_addr().unwrap());
    let (report, seen) = mpsc::channel();
    thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut socket = tungstenite::accept(stream).unwrap();
        loop {
            let message = socket.read();
            let over = message.is_err();
            if let Ok(Message::Text(text)) = &message
                && !text.contains("close")
            {
                socket.send(Message::Ping(Bytes::from_static(b"there?"))).unwrap();
                let padded = OBSERVATION.replace("\"n\":1", &format!("\"n\":{text}"));
                socket.send(Message::text(padded)).unwrap();
            }
            report.send(format!("{message:?}")).unwrap();
            if over {
                return;
            }
        }
    });
    let mut rig = Rig::open(url);
    for length in [0, 100, 125, 126, 65_535, 65_536, 3_000_000] {
        let action = Bytes::from(format!(r#"{{"x":"{}"}}"#, "y".repeat(length)));
        let Outcome::Stepped(observed) = rig.ask(0, Request::Step { action: action.clone() })
        else {
            panic!("{length}");
        };
        assert!(observed.observation.len() > length);
    }
    assert_eq!(rig.ask(0, Request::Close), Outcome::Closed);
    rig.until(|rig| rig.metrics().sockets_closing == 0);
    let seen: Vec<String> = seen.iter().collect();
    assert_eq!(seen.iter().filter(|m| m.contains("Pong")).count(), 7, "{seen:?}");
    assert!(seen[seen.len() - 2].contains("Close(Some"), "{seen:?}");
    assert!(seen[seen.len() - 1].contains("ConnectionClosed"), "{seen:?}");
}

#[test]
fn many_sessions_share_the_thread() {
    const SESSIONS: u32 = 200;
    const STEPS: usize = 20;
    let server = Server::environment();
    let mut rig = Rig::new(server.url());
    for slot in 0..SESSIONS {
        rig.submit(slot, OPEN);
    }
    let mut steps = vec![0; SESSIONS as usize];
    let mut finished = 0;
    while finished < SESSIONS {
        let event = rig.next();
        let slot = event.slot.0;
        match event.outcome {
            Outcome::Opened => {
                rig.submit(slot, reset());
            }
            Outcome::Reset(_) | Outcome::Stepped(_) if steps[slot as usize] < STEPS => {
                steps[slot as usize] += 1;
                rig.submit(slot, step());
            }
            Outcome::Stepped(_) => finished += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(server.accepted(), SESSIONS as usize);
    assert_eq!(rig.metrics().sockets_open, SESSIONS as usize);
    assert!(rig.metrics().requests_in_flight_peak > 10);
    assert_eq!(rig.metrics().requests_in_flight, 0);
}

#[test]
fn headers_and_path_go_with_the_upgrade() {
    let (report, seen) = mpsc::channel();
    let server = Server::start(move |mut peer| {
        let head = peer.head();
        peer.write(Peer::switch(&head).as_bytes());
        report.send(head).unwrap();
        peer.drain();
    });
    let mut target = Target::new(format!("{}/base?session_id=s", server.url()));
    target.headers.push(("Authorization".into(), "Bearer secret".into()));
    let options = Options::new(vec![target]);
    assert!(!format!("{options:?}").contains("secret"));
    let mut rig = Rig::with(options);
    assert_eq!(rig.ask(0, OPEN), Outcome::Opened);
    let head = seen.recv_timeout(WATCHDOG).unwrap();
    assert!(head.starts_with("GET /base/ws?session_id=s HTTP/1.1\r\n"), "{head}");
    assert!(head.contains(&format!("\r\nHost: {}\r\n", server.address)));
    assert!(head.contains("\r\nAuthorization: Bearer secret\r\n"));
    assert!(!head.contains("Extensions"));
}

#[test]
fn a_server_may_move() {
    let first = Server::environment();
    let second = Server::environment();
    let mut rig = Rig::open(first.url());
    rig.worker.set_server(ServerId(0), &Target::new(second.url())).unwrap();
    assert!(matches!(rig.ask(0, reset()), Outcome::Reset(_)), "the old session stays");
    assert_eq!(rig.ask(1, OPEN), Outcome::Opened);
    assert_eq!((first.accepted(), second.accepted()), (1, 1));
    assert!(rig.worker.set_server(ServerId(1), &Target::new(second.url())).is_err());
    assert!(rig.worker.set_server(ServerId(0), &Target::new("nonsense")).is_err());
    assert_eq!(rig.ask(2, OPEN), Outcome::Opened);
}

#[test]
fn sessions_connect_from_the_addresses_they_are_given() {
    let (report, seen) = mpsc::channel();
    let server = Server::upgraded(move |mut peer| {
        report.send(peer.stream.peer_addr().unwrap().ip().to_string()).unwrap();
        peer.drain();
    });
    let mut options = Options::new(vec![Target::new(server.url())]);
    options.source_addresses = vec!["127.0.0.2".parse().unwrap(), "127.0.0.3".parse().unwrap()];
    let mut rig = Rig::with(options);
    for slot in 0..4 {
        assert_eq!(rig.ask(slot, OPEN), Outcome::Opened);
    }
    let mut sources: Vec<_> = (0..4).map(|_| seen.recv_timeout(WATCHDOG).unwrap()).collect();
    sources.sort();
    assert_eq!(sources, ["127.0.0.2", "127.0.0.2", "127.0.0.3", "127.0.0.3"]);
}

#[test]
fn silent_sessions_are_pinged_and_given_up_unless_they_work() {
    let server = Server::upgraded(|mut peer| {
        if peer.number == 0 {
            assert_eq!(peer.receive().unwrap().opcode, 1);
            // A long step, during which this server answers no ping.
            for _ in 0..4 {
                assert_eq!(peer.receive().unwrap().opcode, 9);
            }
            peer.text(OBSERVATION);
        }
        peer.drain();
    });
    let mut options = Options::new(vec![Target::new(server.url())]);
    options.client_ping = Some(Duration::from_secs(1));
    let mut rig = Rig::with(options);
    assert_eq!(rig.ask(0, OPEN), Outcome::Opened);
    rig.submit(0, reset());
    assert_eq!(rig.ask(1, OPEN), Outcome::Opened);
    let failure = rig.lost_idle(1);
    assert!(failure.message.contains("pings"), "{failure}");
    let event = rig.next();
    assert_eq!(event.slot, Slot(0));
    assert!(matches!(event.outcome, Outcome::Reset(_)), "{event:?}");
}

#[test]
fn a_waker_ends_the_wait_now_or_the_next() {
    let mut rig = Rig::new("http://127.0.0.1:1");
    let waker = rig.worker.waker();
    let started = Instant::now();
    waker.wake();
    rig.look(4 * WATCHDOG);
    let handle = thread::spawn(move || waker.wake());
    rig.look(4 * WATCHDOG);
    handle.join().unwrap();
    assert!(started.elapsed() < 4 * WATCHDOG, "woken, not timed out");
}

#[test]
fn commands_without_a_session_are_answered() {
    let mut rig = Rig::new("http://127.0.0.1:1");
    rig.assert_gone(5);
    assert!(rig.lost(0, Request::Open { server: ServerId(9) }).message.contains("no server 9"));
}

#[test]
fn a_second_command_does_not_disturb_the_first() {
    let (go, gone) = mpsc::channel::<()>();
    let gone = std::sync::Mutex::new(gone);
    let server = Server::upgraded(move |mut peer| {
        let _ = peer.request();
        gone.lock().unwrap().recv().unwrap();
        peer.text(OBSERVATION);
        peer.drain();
    });
    let mut rig = Rig::open(server.url());
    let first = rig.submit(0, reset());
    let outcome = rig.ask(0, step());
    assert!(matches!(outcome, Outcome::Failed(failure) if failure.message.contains("outstanding")));
    go.send(()).unwrap();
    let event = rig.next();
    assert_eq!(event.generation, first);
    assert!(matches!(event.outcome, Outcome::Reset(_)));
}

#[test]
fn what_is_not_utf8_is_not_sent() {
    let server = Server::environment();
    let mut rig = Rig::open(server.url());
    let action = Bytes::from_static(b"{\"a\":\"\xff\"}");
    let outcome = rig.ask(0, Request::Step { action });
    assert!(matches!(outcome, Outcome::Failed(failure) if failure.kind == FailureKind::Refused));
    assert!(matches!(rig.ask(0, step()), Outcome::Stepped(_)), "the session is kept");
}

#[test]
fn a_request_larger_than_the_socket_takes_is_sent_in_full() {
    let (report, seen) = mpsc::channel();
    let server = Server::upgraded(move |mut peer| {
        // Nothing is read until the client has had to stop.
        thread::park_timeout(Duration::from_millis(300));
        report.send(peer.request().unwrap().len()).unwrap();
        peer.text(OBSERVATION);
        peer.drain();
    });
    let mut rig = Rig::open(server.url());
    let action = Bytes::from(format!(r#"{{"x":"{}"}}"#, "z".repeat(12 << 20)));
    let length = action.len() + r#"{"type":"step","data":}"#.len();
    assert!(matches!(rig.ask(0, Request::Step { action }), Outcome::Stepped(_)));
    assert_eq!(seen.recv_timeout(WATCHDOG).unwrap(), length);
}

#[test]
fn a_batch_is_taken_as_a_whole() {
    let server = Server::environment();
    let mut rig = Rig::new(server.url());
    let mut batch: Vec<_> = (0..3)
        .map(|slot| Command { slot: Slot(slot), generation: Generation(1), request: OPEN })
        .collect();
    rig.worker.submit(&mut batch);
    assert!(batch.is_empty());
    let mut slots: Vec<_> = (0..3).map(|_| rig.next().slot.0).collect();
    slots.sort_unstable();
    assert_eq!(slots, [0, 1, 2]);
}

#[test]
fn what_arrives_in_pieces_is_put_together() {
    let server = Server::upgraded(|mut peer| {
        let _ = peer.request();
        let mut wire = Peer::frame(0x01, &OBSERVATION.as_bytes()[..20]);
        wire.extend(Peer::frame(0x89, b"in between"));
        wire.extend(Peer::frame(0x80, &OBSERVATION.as_bytes()[20..]));
        for byte in wire {
            peer.stream.write_all(&[byte]).unwrap();
        }
        assert_eq!(peer.receive().unwrap().payload, b"in between");
        while peer.answer_one() {}
    });
    let mut rig = Rig::open(server.url());
    assert!(matches!(rig.ask(0, reset()), Outcome::Reset(_)));
    assert!(matches!(rig.ask(0, step()), Outcome::Stepped(_)));
}
