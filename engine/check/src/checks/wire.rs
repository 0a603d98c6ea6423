//! Clients as networks make them.
//!
//! Proves that a server serves a client whose request comes in pieces, who reads slowly, sends much, or
//! says nothing for a while, and that none of them disturbs another. Messages of 1 MB and of almost 16 MiB
//! (what OpenEnv's servers take) are answered or refused with 1009; both are in order.
//!
//! All of it is asked for by RFC 6455 or done by every stock server. Where something stands between
//! (a tunnel that drops pings, a proxy that limits messages), what is an error on this host is a warning.

use std::time::Duration;

use tungstenite::{Bytes, Message};

use crate::{
    finding::{
        Severity::{self, Error, Warning},
        Sheet,
    },
    play::{Halt, Player},
    subject::Subject,
    wire::{Answer, Opcode, Reply, Socket, Told, Trouble, frame},
};

const STATE: &str = r#"{"type":"state"}"#;
/// The most bytes of a message that OpenEnv's servers take.
const MESSAGE_BYTES_MAX: usize = 16 << 20;

pub(super) fn run(subject: &Subject<'_>, sheet: &mut Sheet) -> Result<(), Halt> {
    let far = if subject.peer.is_local() { Error } else { Warning };
    pings(subject, sheet, far)?;
    pieces(subject, sheet)?;
    half_open(subject, sheet)?;
    large(subject, sheet, far)?;
    slow_reader(subject, sheet)
}

/// A session that has begun, as a bare socket.
fn begun(subject: &Subject<'_>) -> Result<Socket, Halt> {
    let mut player = Player::new(subject);
    player.reset(subject.options.seed)?;
    player.take().ok_or_else(|| Halt::Full("the session is gone".into()))
}

fn is_stop(trouble: &Trouble) -> bool {
    matches!(trouble, Trouble::Stopped)
}

fn pings(subject: &Subject<'_>, sheet: &mut Sheet, far: Severity) -> Result<(), Halt> {
    let mut socket = begun(subject)?;
    let payload: &[u8] = b"envmill";
    let wait = subject.peer.timeout().min(Duration::from_secs(10));
    let answered = socket
        .send_message(Message::Ping(Bytes::from_static(payload)))
        .and_then(|()| socket.receive(wait));
    match answered {
        Ok(Told::Pong(bytes)) if bytes == payload => {
            sheet.pass("ping", "pings are answered", "");
        }
        Err(trouble) if is_stop(&trouble) => {}
        other => {
            let told = match other {
                Ok(told) => format!("{told:?}"),
                Err(trouble) => trouble.to_string(),
            };
            sheet.add(
                far,
                "ping",
                "pings are not answered",
                format!("a ping in an idle session: {told}"),
                "answer pings also while a step runs: clients that keep connections alive, as OpenEnv's own \
                 does, drop the session without",
            );
        }
    }
    socket.close();
    Ok(())
}

/// A request in several frames, and one in several segments of TCP.
fn pieces(subject: &Subject<'_>, sheet: &mut Sheet) -> Result<(), Halt> {
    let mut socket = begun(subject)?;
    let (a, rest) = STATE.as_bytes().split_at(5);
    let (b, c) = rest.split_at(4);
    let frames = [
        frame(Opcode::Text, false, a),
        frame(Opcode::Continuation, false, b),
        frame(Opcode::Continuation, true, c),
    ];
    let answered = socket.send_raw(&frames.concat()).and_then(|()| socket.reply());
    served(sheet, "fragmented", "a request in three frames", &answered);
    if answered.is_err() {
        socket = begun(subject)?;
    }
    let bytes = frame(Opcode::Text, true, STATE.as_bytes());
    let pause = Duration::from_millis(u64::from(subject.at_most(250, 60)));
    let mut sent = Ok(());
    for piece in bytes.chunks(bytes.len().div_ceil(8)) {
        sent = sent.and_then(|()| socket.send_raw(piece));
        subject.peer.stop().pause(pause);
    }
    let answered = sent.and_then(|()| socket.reply());
    let what = format!("a request in 8 segments, {pause:?} apart");
    served(sheet, "segmented", &what, &answered);
    socket.close();
    Ok(())
}

fn served(sheet: &mut Sheet, id: &str, what: &str, answered: &Result<Reply, Trouble>) {
    match answered {
        Ok(reply) => sheet.pass(id, format!("{what} is served"), reply.told()),
        Err(trouble) if is_stop(trouble) => {}
        Err(trouble) => sheet.add(
            Error,
            id,
            format!("{what} is not served"),
            format!("{STATE}: {trouble}"),
            "put messages together before they are read, as RFC 6455 says",
        ),
    }
}

/// Clients that connect and say nothing.
fn half_open(subject: &Subject<'_>, sheet: &mut Sheet) -> Result<(), Halt> {
    let mut mine = begun(subject)?;
    let connect = |trouble| Halt::Trouble { what: "a connection".into(), trouble };
    let mut silent = Vec::new();
    for _ in 0..4 {
        silent.push(subject.peer.tcp().map_err(connect)?);
    }
    let has_room = subject.capacity.get().is_none_or(|it| !it.is_known() || it.sessions > 2);
    let upgraded = if has_room { Socket::open(&subject.peer).ok() } else { None };
    let kinds = if upgraded.is_some() { "4 connections and a WebSocket" } else { "4 connections" };
    let session = mine.ask(STATE);
    let health = subject.http.get("/health");
    let title = "who connects and says nothing disturbs nobody";
    match (session, health) {
        (Ok(_), Ok(_)) => {
            sheet.pass("half-open", title, format!("{kinds} that say nothing"));
        }
        (Err(trouble), _) | (_, Err(trouble)) if is_stop(&trouble) => {}
        (Err(trouble), _) | (_, Err(trouble)) => sheet.add(
            Error,
            "half-open",
            "who connects and says nothing holds up others",
            format!("with {kinds} that say nothing, a session or /health: {trouble}"),
            "accept connections without waiting for what they send",
        ),
    }
    if let Some(upgraded) = upgraded {
        upgraded.close();
    }
    mine.close();
    Ok(())
}

/// Messages of 1 MB and of almost as much as there may be.
fn large(subject: &Subject<'_>, sheet: &mut Sheet, far: Severity) -> Result<(), Halt> {
    for (id, bytes) in [("large-1mb", 1_000_000), ("large-16mib", MESSAGE_BYTES_MAX - 1024)] {
        let mut socket = begun(subject)?;
        // Nothing of the environment's is asked for: no request has that key.
        let head = r#"{"type":"state","envmill":""#;
        let request = format!("{head}{}\"}}", "x".repeat(bytes - head.len() - 2));
        match socket.ask(&request) {
            Ok(reply) => {
                let told = format!("{bytes} bytes: {}", crate::wire_excerpt(&reply.told()));
                sheet.pass(id, "a large message is answered", told);
                socket.close();
            }
            Err(Trouble::Closed { code: 1009, .. }) => {
                sheet.pass(id, "a large message is refused in good order", "closed with 1009");
            }
            Err(trouble) if is_stop(&trouble) => {}
            Err(trouble) => {
                // Who closes while much is under way may be heard only as a reset.
                let is_refused = matches!(trouble, Trouble::Lost(_) | Trouble::Closed { .. });
                let severity = if is_refused && bytes > 2_000_000 { Warning } else { far };
                sheet.add(
                    severity,
                    id,
                    "a large message has no orderly answer",
                    format!("a request of {bytes} bytes: {trouble}"),
                    "answer it, or close with 1009",
                );
            }
        }
    }
    Ok(())
}

/// Someone who asks for much and reads it slowly.
fn slow_reader(subject: &Subject<'_>, sheet: &mut Sheet) -> Result<(), Halt> {
    // More than systems keep for one connection.
    const BYTES: usize = 8_000_000;
    let mut slow = begun(subject)?;
    // A system that keeps more than that is slower to show it, and no more.
    let _ = socket2::SockRef::from(slow.tcp()).set_recv_buffer_size(32 << 10);
    // The stock server repeats in its error what was wrong.
    let request = format!(r#"{{"type":"state","envmill":"{}"}}"#, "y".repeat(BYTES));
    let asked = slow.send(&request);
    if let Err(trouble) = asked {
        if !is_stop(&trouble) {
            sheet.unchecked("slow-reader", "who reads slowly", trouble.to_string());
        }
        return Ok(());
    }
    // Some of the answer, and then none for a while.
    let mut piece = [0; 4096];
    let mut read = 0;
    for _ in 0..8 {
        match slow.read_raw(&mut piece, Duration::from_secs(2)) {
            Ok(0) | Err(_) => break,
            Ok(bytes) => read += bytes,
        }
        subject.peer.stop().pause(Duration::from_millis(25));
    }
    let mut other = Player::new(subject);
    let has_room = subject.capacity.get().is_none_or(|it| !it.is_known() || it.sessions > 1);
    let result: Result<Option<Answer>, Halt> =
        if has_room { other.reset(subject.options.seed).map(Some) } else { Ok(None) };
    match (result, subject.http.get("/health")) {
        (Ok(_), Ok(_)) => sheet.pass(
            "slow-reader",
            "who reads slowly disturbs nobody",
            format!("{read} bytes of an answer were read, and others served meanwhile"),
        ),
        (Err(halt), _) if halt.is_stop() => {}
        (Err(Halt::Full(_)), _) => {
            sheet.absent("slow-reader", "who reads slowly", "there is no room for two sessions");
        }
        (Err(halt), _) => blocked(sheet, &halt.to_string()),
        (_, Err(trouble)) if is_stop(&trouble) => {}
        (_, Err(trouble)) => blocked(sheet, &trouble.to_string()),
    }
    slow.cut(crate::wire::Cut::Reset);
    Ok(())
}

fn blocked(sheet: &mut Sheet, told: &str) {
    sheet.add(
        Error,
        "slow-reader",
        "who reads slowly holds up others",
        format!("while one client does not read its answer, another: {told}"),
        "send without blocking the loop or the lock that others need",
    );
}
