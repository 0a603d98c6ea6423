//! Mistakes of a client that its session outlives.

use super::protocol::STATE;
use crate::{
    finding::{
        Severity::{Error, Note, Warning},
        Sheet,
    },
    play::{Halt, Player},
    subject::Subject,
    wire::{Reply, Trouble},
};

/// A client's mistake that its session outlives.
struct Mistake {
    id: &'static str,
    what: &'static str,
    request: &'static str,
    code: &'static str,
    /// Whether it reaches the environment's own model, whose validators may do anything.
    is_action: bool,
}

const MISTAKES: [Mistake; 9] = [
    Mistake {
        id: "invalid-json",
        what: "no JSON",
        request: "{",
        code: "INVALID_JSON",
        is_action: false,
    },
    Mistake {
        id: "invalid-json",
        what: "nothing",
        request: "",
        code: "INVALID_JSON",
        is_action: false,
    },
    Mistake {
        id: "unknown-type",
        what: "an unknown type",
        request: r#"{"type":"envmill-no-such-type","data":{}}"#,
        code: "UNKNOWN_TYPE",
        is_action: false,
    },
    Mistake {
        id: "unknown-type",
        what: "no type",
        request: "{}",
        code: "UNKNOWN_TYPE",
        is_action: false,
    },
    Mistake {
        id: "extra-key",
        what: "a key that no request has",
        request: r#"{"type":"state","request_id":"1"}"#,
        code: "VALIDATION_ERROR",
        is_action: false,
    },
    Mistake {
        id: "null-data",
        what: "null for the parameters of a reset",
        request: r#"{"type":"reset","data":null}"#,
        code: "VALIDATION_ERROR",
        is_action: false,
    },
    Mistake {
        id: "no-action",
        what: "a step without an action",
        request: r#"{"type":"step"}"#,
        code: "VALIDATION_ERROR",
        is_action: false,
    },
    Mistake {
        id: "unknown-field",
        what: "an action with a field that there is not",
        request: r#"{"type":"step","data":{"envmill_no_such_field":1}}"#,
        code: "VALIDATION_ERROR",
        is_action: true,
    },
    Mistake {
        id: "nan",
        what: "an action with NaN, which Python reads and JSON does not have",
        request: r#"{"type":"step","data":{"envmill_no_such_field":NaN}}"#,
        code: "VALIDATION_ERROR",
        is_action: true,
    },
];

pub(super) fn mistakes(
    subject: &Subject<'_>,
    sheet: &mut Sheet,
    player: &mut Player<'_>,
) -> Result<(), Halt> {
    let mut clean = true;
    for mistake in &MISTAKES {
        let Mistake { id, what, request, code: expected, is_action } = mistake;
        let asked = player.ask(what, request);
        let reply = match asked {
            Ok(reply) => reply,
            Err(Halt::Trouble { trouble, .. }) if !matches!(trouble, Trouble::Stopped) => {
                clean = false;
                let (name, title) = match &trouble {
                    Trouble::Silent(_) => ("silent", "a client's mistake is never answered"),
                    trouble if trouble.is_garbled() => {
                        ("garbled", "a client's mistake is answered with what is no answer")
                    }
                    _ => ("session-lost", "a client's mistake costs it its session"),
                };
                sheet.add(
                    Error,
                    &format!("{name}.{id}"),
                    title,
                    format!("sent {what} ({request}): {trouble}"),
                    format!("answer {expected} and go on with the session"),
                );
                player.reset(subject.options.seed)?;
                continue;
            }
            Err(halt) => return Err(halt),
        };
        match &reply {
            Reply::Error { code, .. } if code == expected => {}
            // The action may allow further fields, and an environment may fail with them.
            Reply::Observation(_) if *is_action => sheet.add(
                Note,
                "unknown-field",
                "actions with fields that there are not are accepted",
                format!("{request} was answered with {}", reply.told()),
                "have the action's model forbid extra fields, as OpenEnv's Action does",
            ),
            Reply::Error { code, .. }
                if *is_action && ["EXECUTION_ERROR", "INVALID_JSON"].contains(&code.as_str()) => {}
            Reply::Error { .. } => {
                clean = false;
                sheet.add(
                    Warning,
                    &format!("error-code.{id}"),
                    "a client's mistake is answered with another error than OpenEnv's",
                    format!("sent {what} ({request}): {}, not {expected}", reply.told()),
                    format!("answer {expected}"),
                );
            }
            _ => {
                clean = false;
                sheet.add(
                    Warning,
                    &format!("accepted.{id}"),
                    "what is no request is accepted",
                    format!("sent {what} ({request}): {}", reply.told()),
                    format!("answer {expected}: a client that believes in a parameter should hear that there is none"),
                );
            }
        }
        // The session must have outlived it.
        match player.ask("state", STATE) {
            Ok(Reply::State(_) | Reply::Error { .. }) => {}
            Ok(reply) => {
                clean = false;
                sheet.add(
                    Error,
                    &format!("after.{id}"),
                    "after a client's mistake the next answer is wrong",
                    format!("sent {what} ({request}), then {STATE}: {}", reply.told()),
                    "answer every request exactly once",
                );
            }
            Err(Halt::Trouble { trouble, .. }) if !matches!(trouble, Trouble::Stopped) => {
                clean = false;
                let is_quirk = *is_action
                    && matches!(&reply, Reply::Error { code, .. } if code == "SESSION_ERROR");
                let severity = if is_quirk { Warning } else { Error };
                sheet.add(
                    severity,
                    &format!("session-lost.{id}"),
                    "a client's mistake costs it its session",
                    format!("sent {what} ({request}): {}; after that {trouble}", reply.told()),
                    "keep the session: only what is no text or no object may end one",
                );
                player.reset(subject.options.seed)?;
            }
            Err(halt) => return Err(halt),
        }
    }
    if clean {
        let evidence = format!("{} kinds of mistakes", MISTAKES.len());
        sheet.pass(
            "mistakes",
            "mistakes are answered with their errors and keep the session",
            evidence,
        );
    }
    Ok(())
}
