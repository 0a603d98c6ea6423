//! Messages on `/ws`.
//!
//! Proves that every kind of message gets its answer, in OpenEnv's envelope and in the order of the
//! requests, and that a mistake of a client costs it what the protocol says and no more: a session
//! outlives INVALID_JSON, UNKNOWN_TYPE, VALIDATION_ERROR and EXECUTION_ERROR, and may be lost with what
//! is no object or no text.
//!
//! A sound server passes whatever its environment does: what is asked is refused by the protocol before
//! it reaches an environment, and any orderly answer of one is taken. Where OpenEnv itself has lost
//! sessions in one version or another, that is a warning.

use std::time::Duration;

use tungstenite::{Bytes, Message};

use super::mistakes::mistakes;
use crate::{
    finding::{
        Severity::{Error, Warning},
        Sheet,
    },
    play::{Halt, Player},
    subject::Subject,
    wire::{Reply, Socket, Told, Trouble},
};

pub(super) const STATE: &str = r#"{"type":"state"}"#;
/// Steps that are played to see envelopes.
const STEPS: u32 = 20;

pub(super) fn run(subject: &Subject<'_>, sheet: &mut Sheet) -> Result<(), Halt> {
    let mut player = Player::new(subject);
    messages(subject, sheet, &mut player)?;
    mistakes(subject, sheet, &mut player)?;
    order(subject, sheet, &mut player)?;
    close(sheet, player);
    before_reset(subject, sheet)?;
    may_lose(subject, sheet)
}

/// Reset, step, state and mcp in good order.
fn messages(subject: &Subject<'_>, sheet: &mut Sheet, player: &mut Player<'_>) -> Result<(), Halt> {
    player.reset(subject.options.seed)?;
    sheet.pass("reset", "a reset is answered with an observation", "");
    match subject.choice(subject.options.seed) {
        Ok(mut choice) => {
            let episode = player.play(subject.options.seed, &mut choice, STEPS)?;
            let refused =
                if episode.refused.is_some() { ", the last of which was refused" } else { "" };
            let evidence = format!("{} steps{refused}", episode.actions().len());
            sheet.pass("step", "steps are answered with observations", evidence);
        }
        Err(halt) => sheet.unchecked("step", "no steps were taken", halt.to_string()),
    }
    player.reset(subject.options.seed)?;
    match player.ask("state", STATE)? {
        Reply::State(_) => sheet.pass("state", "the state is answered", ""),
        Reply::Error { code, message } => sheet.add(
            Warning,
            "state",
            "the state cannot be read",
            format!("{STATE} was answered with the error {code}: {message}"),
            "have the environment's `state` return a State that can be serialised",
        ),
        reply => sheet.add(
            Error,
            "wrong-reply",
            "a question for the state is answered with something else",
            format!("{STATE} was answered with {}", reply.told()),
            "answer each request with its own type",
        ),
    }
    let mcp = r#"{"type":"mcp","data":{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{}}}"#;
    match player.ask("mcp", mcp)? {
        Reply::Mcp(answer) if answer.get("jsonrpc").is_some() => {
            sheet.pass("mcp", "an mcp message is answered", "");
        }
        Reply::Mcp(answer) => sheet.add(
            Warning,
            "mcp",
            "an mcp message is answered with no JSON-RPC",
            format!("{mcp} was answered with {}", crate::wire_excerpt(&answer.to_string())),
            "answer with {\"jsonrpc\": \"2.0\", \"id\": …} and a result or an error",
        ),
        Reply::Error { code, .. } if code == "UNKNOWN_TYPE" => sheet.absent(
            "mcp",
            "the server does not know mcp messages",
            "OpenEnv before 0.2.2 has none",
        ),
        Reply::Error { code, message } => sheet.add(
            Warning,
            "mcp",
            "an mcp message is answered with an error outside of JSON-RPC",
            format!("{mcp} was answered with the error {code}: {message}"),
            "answer with {\"type\":\"mcp\"} and a JSON-RPC error within",
        ),
        reply => sheet.add(
            Error,
            "wrong-reply",
            "an mcp message is answered with something else",
            format!("{mcp} was answered with {}", reply.told()),
            "answer each request with its own type",
        ),
    }
    Ok(())
}

/// Several requests at once are answered one after the other.
fn order(subject: &Subject<'_>, sheet: &mut Sheet, player: &mut Player<'_>) -> Result<(), Halt> {
    player.reset(subject.options.seed)?;
    let Some(mut socket) = player.take() else { return Ok(()) };
    let requests = [STATE, "{", STATE, r#"{"type":"envmill-no-such-type"}"#, STATE];
    let asked: Result<Vec<Reply>, Trouble> = requests
        .iter()
        .try_for_each(|request| socket.send(request))
        .and_then(|()| requests.iter().map(|_| socket.reply()).collect());
    let halt = |trouble| Halt::Trouble { what: "five requests at once".into(), trouble };
    let replies = asked.map_err(halt)?;
    let errors: Vec<bool> =
        replies.iter().map(|reply| matches!(reply, Reply::Error { .. })).collect();
    let told: Vec<String> = replies.iter().map(Reply::told).collect();
    let evidence = format!("sent {}: {}", requests.join(" "), told.join(", "));
    // Where the state is an error itself, the order cannot be seen.
    let is_in_order = errors == [false, true, false, true, false] || errors == [true; 5];
    if is_in_order {
        sheet.pass("order", "requests are answered in their order", evidence);
    } else {
        sheet.add(
            Error,
            "order",
            "answers come in another order than their requests",
            evidence,
            "answer one request of a session after the other: answers carry no id",
        );
    }
    socket.close();
    Ok(())
}

/// The session ends with `close`.
fn close(sheet: &mut Sheet, mut player: Player<'_>) {
    let Ok(_) = player.reset(0) else { return };
    let Some(mut socket) = player.take() else { return };
    let request = r#"{"type":"close"}"#;
    let wait = Duration::from_secs(5);
    match socket.send(request).and_then(|()| socket.receive(wait)) {
        Ok(Told::Close(code, _)) => {
            sheet.pass("close", "close ends the session", format!("closed with {code}"));
        }
        Ok(told) => sheet.add(
            Warning,
            "close",
            "close is answered with a message",
            format!("{request} was answered with {told:?}"),
            "answer with the closing frame alone",
        ),
        Err(Trouble::Stopped) => {}
        Err(trouble) => sheet.add(
            Warning,
            "close",
            "close does not end the session in good order",
            format!("{request}: {trouble}"),
            "answer with a closing frame, and free the session's slot",
        ),
    }
}

/// A step without an episode.
fn before_reset(subject: &Subject<'_>, sheet: &mut Sheet) -> Result<(), Halt> {
    let action = match subject.choice(subject.options.seed) {
        Ok(mut choice) => choice.action(0, &serde_json::Value::Null).unwrap_or_default(),
        Err(_) => None,
    };
    let request = Player::step_request(&action.unwrap_or_else(|| "{}".into()));
    match in_new_session(subject, |socket| socket.ask(&request)) {
        Ok(reply @ (Reply::Observation(_) | Reply::Error { .. })) => {
            sheet.pass(
                "step-before-reset",
                "a step before the first reset is answered",
                reply.told(),
            );
        }
        Ok(reply) => sheet.add(
            Error,
            "wrong-reply",
            "a step is answered with something else",
            format!("{request} before any reset was answered with {}", reply.told()),
            "answer each request with its own type",
        ),
        Err(Trouble::Stopped) => {}
        Err(trouble) => sheet.add(
            Error,
            "step-before-reset",
            "a step before the first reset has no orderly answer",
            format!("{request} before any reset: {trouble}"),
            "answer with an error, or begin an episode",
        ),
    }
    player_lives(subject)
}

/// What may cost the session, and must not cost the server.
fn may_lose(subject: &Subject<'_>, sheet: &mut Sheet) -> Result<(), Halt> {
    let kinds: [(&str, &str, Message); 3] = [
        ("not-an-object", "a list", Message::text("[1]")),
        ("not-an-object", "null", Message::text("null")),
        (
            "binary",
            "a binary message",
            Message::Binary(Bytes::from_static(b"{\"type\":\"state\"}")),
        ),
    ];
    let mut told = Vec::new();
    for (id, what, message) in kinds {
        let asked = in_new_session(subject, |socket| {
            socket.send_message(message)?;
            socket.reply()
        });
        match asked {
            Ok(reply) => told.push(format!("{what}: {}", reply.told())),
            Err(Trouble::Closed { code, .. }) => told.push(format!("{what}: closed with {code}")),
            Err(Trouble::Stopped) => return Ok(()),
            Err(trouble) => sheet.add(
                Warning,
                &format!("session-error.{id}"),
                "what is no request has no orderly answer",
                format!("sent {what}: {trouble}"),
                "answer SESSION_ERROR and close the session",
            ),
        }
        player_lives(subject)?;
    }
    if told.len() == 3 {
        sheet.pass("session-error", "what is no request ends the session at most", told.join("; "));
    }
    Ok(())
}

/// Asks something in a session that was never reset.
fn in_new_session<T>(
    subject: &Subject<'_>,
    asks: impl FnOnce(&mut Socket) -> Result<T, Trouble>,
) -> Result<T, Trouble> {
    // The session before may have held the only slot.
    subject.peer.stop().pause(Duration::from_millis(100));
    let mut socket = Socket::open(&subject.peer)?;
    let answer = asks(&mut socket);
    if answer.is_ok() {
        socket.close();
    }
    answer
}

/// The server goes on with others, and has taken note of the session's end.
fn player_lives(subject: &Subject<'_>) -> Result<(), Halt> {
    Player::new(subject).reset(subject.options.seed).map(drop)
}
