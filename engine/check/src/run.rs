//! All checks, one after the other.

use std::time::Instant;

use crate::{
    checks::{CHECKS, Check},
    finding::{Severity, Sheet},
    play::Halt,
    report::Report,
    subject::Subject,
    wire::Trouble,
};

/// What was asked for cannot be run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RunError {
    /// There is no such check.
    #[error("there is no check `{name}`; there are {known}", known = names())]
    Unknown {
        /// What was given.
        name: String,
    },
}

fn names() -> String {
    CHECKS.iter().map(|check| check.name).collect::<Vec<_>>().join(", ")
}

/// Runs the checks that the options name. What a check has found when the user asks to stop is in the
/// report, which says what was not run to its end.
///
/// # Errors
///
/// The options name a check that there is not.
pub fn run(subject: &Subject<'_>, target: &str) -> Result<Report, RunError> {
    let only = &subject.options.only;
    if let Some(unknown) = only.iter().find(|name| CHECKS.iter().all(|it| it.name != **name)) {
        return Err(RunError::Unknown { name: unknown.clone() });
    }
    let chosen: Vec<&Check> = CHECKS
        .iter()
        .filter(|check| only.is_empty() || only.iter().any(|name| name == check.name))
        .collect();
    let began = Instant::now();
    let (mut findings, mut not_run) = (Vec::new(), Vec::new());
    for (number, check) in chosen.iter().enumerate() {
        if subject.peer.stop().is_asked() {
            not_run.push(check.name);
            continue;
        }
        subject.surroundings.tell(check.name, number + 1, chosen.len());
        let reproduce = subject.options.reproduce(check.name, &subject.options.actions);
        let mut sheet = Sheet::new(check.name, reproduce);
        let ended = (check.run)(subject, &mut sheet);
        if subject.peer.stop().is_asked() {
            not_run.push(check.name);
        } else if let Err(halt) = ended {
            halted(&mut sheet, &halt);
        }
        findings.extend(sheet.into_findings());
    }
    let seconds = began.elapsed().as_secs_f64();
    Ok(Report::new(target.into(), subject.options.seed, seconds, not_run, findings))
}

/// What it means that a check could not go on.
fn halted(sheet: &mut Sheet, halt: &Halt) {
    let told = halt.to_string();
    let is_first = sheet.check() == "protocol";
    match halt {
        Halt::Trouble { trouble: Trouble::NotANumber { .. }, .. } => sheet.add(
            Severity::Error,
            "nan-literal",
            "an answer holds NaN or an infinity as a literal, which is no JSON",
            told,
            "send null, or leave such values out: most parsers refuse the whole message",
        ),
        Halt::Trouble { trouble: Trouble::NotJson { .. }, .. } => sheet.add(
            Severity::Error,
            "not-json",
            "an answer is no JSON",
            told,
            "answer every request with one JSON object in a message of text",
        ),
        Halt::Trouble { trouble: Trouble::Envelope { .. }, .. } => sheet.add(
            Severity::Error,
            "envelope",
            "an answer is no envelope of OpenEnv's",
            told,
            "answer {\"type\": …, \"data\": {\"observation\": {…}, \"reward\": number or null, \"done\": true or \
             false}}",
        ),
        Halt::Trouble { trouble: Trouble::Frames(_), .. } => sheet.add(
            Severity::Error,
            "frames",
            "the server breaks the WebSocket protocol",
            told,
            "serve with a library that speaks RFC 6455, as uvicorn does",
        ),
        Halt::Trouble { trouble: Trouble::Lost(_) | Trouble::Closed { .. }, .. } => sheet.add(
            Severity::Error,
            "lost",
            "a session is lost in the middle of it",
            told,
            "see the server's log; a session ends with close, and with what is no request",
        ),
        Halt::Trouble { trouble: Trouble::Silent(_), .. } => sheet.add(
            if is_first { Severity::Error } else { Severity::Warning },
            "silent",
            "a request is never answered",
            told,
            "answer every request, with an error if need be; if it only takes longer, raise --timeout-ms",
        ),
        Halt::Trouble { trouble: Trouble::Connect(_) | Trouble::Upgrade { .. }, .. } => sheet.add(
            Severity::Error,
            "unreachable",
            "no session can be opened",
            told,
            "see whether the server runs and serves WebSockets on /ws",
        ),
        Halt::Unexpected { .. } => sheet.add(
            Severity::Error,
            "wrong-reply",
            "a request is answered with something else",
            told,
            "answer each request with its own type",
        ),
        Halt::Refused { .. } => sheet.add(
            Severity::Error,
            "reset-refused",
            "a reset fails",
            told,
            "have reset work with a seed alone; if it needs more, give it with --reset '{…}'",
        ),
        Halt::Full(_) | Halt::NoActions(_) | Halt::Trouble { .. } => {
            sheet.unchecked("rest", "the check could not go on", told);
        }
    }
}
