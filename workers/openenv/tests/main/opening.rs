//! Openings that fail, and what is said about it.

use std::{net::TcpListener, sync::mpsc, time::Duration};

use envmill_openenv::{OpenEnvWorker, Options, Server as Target};
use envmill_protocol::{FailureKind, Outcome, Request};
use socket2::SockRef;

use crate::{
    peer::{CAPACITY, Peer, Server},
    rig::{OPEN, Rig, WATCHDOG, reset, step},
};

fn answering(answer: &'static str) -> Server {
    Server::start(move |mut peer| {
        peer.head();
        peer.write(answer.as_bytes());
    })
}

#[test]
fn other_answers_than_an_upgrade_are_told_apart() {
    for (answer, kind, retry_after, word) in [
        (
            "HTTP/1.1 301 Moved\r\nLocation: https://elsewhere/ws\r\nContent-Length: 0\r\n\r\n",
            FailureKind::UpgradeRefused { status: 301 },
            None,
            "https://elsewhere/ws",
        ),
        (
            "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n",
            FailureKind::UpgradeRefused { status: 401 },
            None,
            "Authorization",
        ),
        (
            "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n",
            FailureKind::UpgradeRefused { status: 403 },
            None,
            "path",
        ),
        (
            "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 3\r\n\r\nslow down, please",
            FailureKind::UpgradeRefused { status: 429 },
            Some(Duration::from_secs(3)),
            "slow down",
        ),
        (
            "HTTP/1.1 503 Service Unavailable\r\nretry-after: 20\r\n\r\n",
            FailureKind::UpgradeRefused { status: 503 },
            Some(Duration::from_secs(20)),
            "503",
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<html>sleeping",
            FailureKind::NotOpenEnv,
            None,
            "sleeps",
        ),
        ("220 mail.example ESMTP\r\n", FailureKind::NotOpenEnv, None, "another service"),
        ("HTTP/1.1 101 Swi", FailureKind::Unreachable, None, "middle"),
        ("", FailureKind::Unreachable, None, "https"),
    ] {
        let server = answering(answer);
        let failure = Rig::refused(server.url());
        assert_eq!(failure.kind, kind, "{answer}: {failure}");
        assert_eq!(failure.retry_after, retry_after);
        assert!(failure.message.contains(word), "{failure}");
        assert!(failure.message.contains(&server.address.to_string()), "{failure}");
    }
}

#[test]
fn nobody_there_is_unreachable() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let failure = Rig::refused(format!("http://{free}"));
    assert_eq!(failure.kind, FailureKind::Unreachable);
    assert!(failure.message.contains("refused"), "{failure}");
}

#[test]
fn a_name_that_does_not_exist_says_so() {
    let failure = Rig::refused("http://no-such-host.invalid:8000");
    assert_eq!(failure.kind, FailureKind::NameResolution);
    assert!(failure.message.contains("no-such-host.invalid"), "{failure}");
}

#[test]
fn names_are_resolved_and_every_address_is_tried() {
    // `localhost` has ::1 first on most machines, where nobody listens.
    let server = Server::environment();
    let mut rig = Rig::new(format!("http://localhost:{}", server.address.port()));
    for slot in 0..3 {
        rig.submit(slot, OPEN);
    }
    for _ in 0..3 {
        assert_eq!(rig.next().outcome, Outcome::Opened);
    }
}

#[test]
fn a_source_address_that_is_not_ours_names_the_remedy() {
    let server = Server::environment();
    let mut options = Options::new(vec![Target::new(server.url())]);
    options.source_addresses = vec!["192.0.2.77".parse().unwrap()];
    let failure = Rig::with(options).lost(0, OPEN);
    assert_eq!(failure.kind, FailureKind::Limit);
    assert!(failure.message.contains("source address"), "{failure}");
}

#[test]
fn half_an_upgrade_and_then_silence_waits_for_the_close() {
    let (report, seen) = mpsc::channel();
    let server = Server::start(move |mut peer| {
        peer.head();
        peer.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgr");
        report.send(()).unwrap();
        peer.drain();
        report.send(()).unwrap();
    });
    let mut rig = Rig::new(server.url());
    rig.submit(0, OPEN);
    rig.until(|_| seen.try_recv().is_ok());
    rig.assert_quiet();
    assert_eq!(rig.metrics().sockets_opening, 1);
    let outcome = rig.ask(0, step());
    assert!(matches!(outcome, Outcome::Failed(failure) if failure.message.contains("opened")));
    assert_eq!(rig.ask(0, Request::Close), Outcome::Closed);
    seen.recv_timeout(WATCHDOG).expect("the socket is cut");
    rig.assert_quiet();
    assert_eq!(rig.metrics().sockets_opening, 0);
}

#[test]
fn an_upgrade_byte_by_byte_with_the_first_message_behind_it() {
    let server = Server::start(|mut peer| {
        let head = peer.head();
        let mut wire = Peer::switch(&head).into_bytes();
        wire.extend(Peer::frame(0x89, b"early"));
        for byte in wire {
            peer.write(&[byte]);
        }
        // The ping comes byte by byte too, so the first request may be there before its pong.
        let first = peer.receive().unwrap().payload;
        if first != b"early" {
            assert_eq!(peer.receive().unwrap().payload, b"early");
            peer.answer_text();
        }
        while peer.answer_one() {}
    });
    let mut rig = Rig::open(server.url());
    assert!(matches!(rig.ask(0, reset()), Outcome::Reset(_)));
}

#[test]
fn a_refusal_with_the_upgrade_answers_the_opening() {
    let server = Server::start(|mut peer| {
        let head = peer.head();
        let mut wire = Peer::switch(&head).into_bytes();
        wire.extend(Peer::frame(0x81, CAPACITY.as_bytes()));
        wire.extend(Peer::frame(0x88, &1000u16.to_be_bytes()));
        peer.write(&wire);
    });
    let failure = Rig::refused(server.url());
    assert_eq!(failure.kind, FailureKind::Capacity);
}

#[test]
fn a_refusal_before_the_first_request_is_news_and_the_answer_to_what_was_under_way() {
    for kind in [FailureKind::Capacity, FailureKind::Factory] {
        let (go, gone) = mpsc::channel::<()>();
        let gone = std::sync::Mutex::new(gone);
        let server = Server::upgraded(move |mut peer| {
            gone.lock().unwrap().recv().unwrap();
            peer.text(&match kind {
                FailureKind::Factory => CAPACITY.replace("CAPACITY_REACHED", "FACTORY_ERROR"),
                _ => CAPACITY.to_owned(),
            });
            peer.close(1000);
        });
        let mut rig = Rig::open(server.url());
        go.send(()).unwrap();
        assert_eq!(rig.lost_idle(0).kind, kind);
        // The engine may have sent this before it saw the news.
        assert_eq!(rig.lost(0, reset()).kind, kind);
        rig.assert_gone(0);
    }
}

#[test]
fn a_refusal_is_read_although_the_request_could_not_be_sent() {
    let (report, seen) = mpsc::channel();
    let server = Server::upgraded(move |mut peer| {
        peer.text(CAPACITY);
        peer.close(1000);
        if peer.number % 2 == 1 {
            // Reset rather than closed, so that the client cannot even write.
            SockRef::from(&peer.stream).set_linger(Some(Duration::ZERO)).unwrap();
        }
        drop(peer);
        report.send(()).unwrap();
    });
    for _ in 0..50 {
        // Nothing is looked at between the opening and the request, so that the first write meets
        // a socket whose other end is gone, with the refusal unread.
        let mut rig = Rig::new(server.url());
        let outcome = rig.ask(0, OPEN);
        seen.recv_timeout(WATCHDOG).unwrap();
        match outcome {
            Outcome::Opened => {}
            Outcome::Failed(failure) => {
                assert_eq!(failure.kind, FailureKind::Capacity);
                continue;
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(rig.lost(0, reset()).kind, FailureKind::Capacity);
        rig.assert_quiet();
    }
}

#[test]
fn a_refusal_as_the_answer_to_the_first_request() {
    let server = Server::upgraded(|mut peer| {
        let _ = peer.request();
        peer.text(CAPACITY);
        peer.close(1000);
    });
    let mut rig = Rig::open(server.url());
    assert_eq!(rig.lost(0, reset()).kind, FailureKind::Capacity);
    rig.assert_quiet();
    rig.assert_gone(0);
}

#[test]
fn a_slot_can_be_opened_again_and_again() {
    let server = Server::environment();
    let mut rig = Rig::new(server.url());
    for _ in 0..20 {
        assert_eq!(rig.ask(0, OPEN), Outcome::Opened);
        assert!(matches!(rig.ask(0, reset()), Outcome::Reset(_)));
        assert_eq!(rig.ask(0, Request::Close), Outcome::Closed);
    }
    rig.assert_quiet();
}

#[test]
fn options_that_cannot_be_used_name_the_remedy() {
    let refused = |change: &dyn Fn(&mut Options)| {
        let mut options = Options::new(vec![Target::new("http://127.0.0.1:1")]);
        change(&mut options);
        OpenEnvWorker::new(options).unwrap_err().to_string()
    };
    let header = |name: &str, value: &str| {
        let header = (name.to_owned(), value.to_owned());
        refused(&|options| options.servers[0].headers.push(header.clone()))
    };
    for (error, word) in [
        (refused(&|options| options.servers[0].url = "localhost:8000".into()), "http://"),
        (refused(&|options| options.message_bytes_max = 0), "message_bytes_max is 0"),
        (refused(&|options| options.read_buffer_bytes = 1), "from 4096"),
        (refused(&|options| options.client_ping = Some(Duration::from_millis(1))), "client_ping"),
        (refused(&|options| options.ca_file = Some("/no/such/file".into())), "/no/such/file"),
        (header("Host", "x"), "itself"),
        (header("a b", "x"), "name"),
        (header("x", "secret\r\nvalue"), "line break"),
        (header("x", &"y".repeat(20_000)), "16 KiB"),
    ] {
        assert!(error.contains(word), "{error}");
        assert!(!error.contains("secret"), "{error}");
    }
}
