//! HTTP beside the sessions.
//!
//! Proves that a client finds what it needs before it opens a session. `/metadata` builds an environment
//! in stock servers, so it is asked once; that it is missing is no error, since playing needs it not.

use crate::{
    finding::{
        Severity::{Error, Note, Warning},
        Sheet,
    },
    play::Halt,
    subject::Subject,
    wire::{Socket, Trouble},
};

pub(super) fn run(subject: &Subject<'_>, sheet: &mut Sheet) -> Result<(), Halt> {
    health(subject, sheet);
    match subject.schemas() {
        Ok(_) => sheet.pass("schema", "/schema describes actions", ""),
        Err(why) => sheet.add(
            Error,
            "schema",
            "/schema does not describe actions",
            why,
            "serve {action, observation, state} as JSON Schemas, as OpenEnv's create_app does",
        ),
    }
    match subject.http.get("/metadata") {
        Ok(answer) if answer.status == 200 && answer.json().is_some_and(|it| it.is_object()) => {
            sheet.pass("metadata", "/metadata answers", "");
        }
        Ok(answer) if answer.status == 404 => sheet.add(
            Note,
            "metadata",
            "there is no /metadata",
            "GET /metadata was answered with HTTP 404",
            "serve name, description and version there",
        ),
        Ok(answer) => sheet.add(
            Warning,
            "metadata",
            "/metadata does not answer",
            format!("GET /metadata was answered with HTTP {}", answer.status),
            "have it return an object with name, description and version",
        ),
        Err(Trouble::Stopped) => {}
        Err(trouble) => sheet.add(
            Warning,
            "metadata",
            "/metadata does not answer",
            format!("GET /metadata: {trouble}"),
            "have it return an object with name, description and version",
        ),
    }
    unknown(subject, sheet);
    Ok(())
}

fn health(subject: &Subject<'_>, sheet: &mut Sheet) {
    let problem = match subject.http.get("/health") {
        Ok(answer) if answer.status == 200 => match answer.json() {
            Some(it) if it.get("status").is_some() => {
                sheet.pass("health", "/health answers", answer.body);
                return;
            }
            _ => {
                sheet.add(
                    Warning,
                    "health",
                    "/health answers without a status",
                    format!("GET /health was answered with {}", crate::wire_excerpt(&answer.body)),
                    "answer {\"status\":\"healthy\"}",
                );
                return;
            }
        },
        Ok(answer) => format!("GET /health was answered with HTTP {}", answer.status),
        Err(Trouble::Stopped) => return,
        Err(trouble) => format!("GET /health: {trouble}"),
    };
    sheet.add(
        Error,
        "health",
        "/health does not answer",
        problem,
        "serve it with HTTP 200: whoever starts a server waits for it",
    );
}

/// Paths that there are not.
fn unknown(subject: &Subject<'_>, sheet: &mut Sheet) {
    match subject.http.get("/envmill-no-such-path") {
        Ok(answer) if (400..500).contains(&answer.status) => {
            sheet.pass(
                "unknown-path",
                "an unknown path is refused",
                format!("HTTP {}", answer.status),
            );
        }
        Ok(answer) => sheet.add(
            if answer.status >= 500 { Warning } else { Note },
            "unknown-path",
            "an unknown path is not refused",
            format!("GET /envmill-no-such-path was answered with HTTP {}", answer.status),
            "answer HTTP 404",
        ),
        Err(Trouble::Stopped) => {}
        Err(trouble) => sheet.add(
            Warning,
            "unknown-path",
            "an unknown path has no orderly answer",
            format!("GET /envmill-no-such-path: {trouble}"),
            "answer HTTP 404",
        ),
    }
    let opened = subject
        .peer
        .tcp()
        .and_then(|tcp| Socket::over(&subject.peer, tcp, "/envmill-no-such-socket"));
    match opened {
        Err(Trouble::Upgrade { status }) => sheet.pass(
            "unknown-socket",
            "an unknown path is not upgraded",
            format!("HTTP {status}"),
        ),
        Ok(socket) => {
            socket.close();
            sheet.add(
                Note,
                "unknown-socket",
                "a WebSocket on an unknown path is accepted",
                "the upgrade of /envmill-no-such-socket succeeded",
                "refuse it with HTTP 403 or 404",
            );
        }
        Err(Trouble::Stopped) => {}
        Err(trouble) => sheet.add(
            Warning,
            "unknown-socket",
            "a WebSocket on an unknown path has no orderly answer",
            format!("the upgrade of /envmill-no-such-socket: {trouble}"),
            "refuse it with HTTP 403 or 404",
        ),
    }
}
