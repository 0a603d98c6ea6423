//! How many sessions.
//!
//! Proves what becomes of a client for whom there is no room: OpenEnv upgrades it, sends the error
//! CAPACITY_REACHED and closes. A refusal in HTTP is as good. One that is dropped without a word cannot
//! be told from a network that fails, and one that hangs holds a client for good.
//!
//! A server passes that makes clients wait for a while first, as gateways do: `--timeout-ms` is longer
//! than that. One with room for all sessions up to `--max-sessions` is not looked at further.

use crate::{
    capacity::{Limit, measure},
    finding::{
        Severity::{Error, Warning},
        Sheet,
    },
    play::{Halt, Player},
    subject::Subject,
};

pub(super) fn run(subject: &Subject<'_>, sheet: &mut Sheet) -> Result<(), Halt> {
    // Whatever was before has let go of its slot.
    Player::new(subject).reset(subject.options.seed)?;
    subject.peer.stop().pause(std::time::Duration::from_millis(300));
    let most = subject.options.max_sessions as usize;
    let until = subject.until(60);
    let capacity = measure(subject, most.saturating_add(1), until);
    let sessions = capacity.sessions;
    let held = format!("{sessions} sessions were open at once");
    match &capacity.limit {
        Limit::Reached => {
            sheet.absent(
                "refusal",
                "no limit was found",
                format!("{held} (--max-sessions {most})"),
            );
        }
        Limit::Late => {
            sheet.unchecked("refusal", "no limit was found in time", held.clone());
        }
        Limit::Refused(how) => sheet.pass(
            "refusal",
            "one session too many is refused in good order",
            format!("{held}; the next: {how}"),
        ),
        Limit::Dropped(how) => sheet.add(
            Error,
            "dropped",
            "one session too many is dropped without a word",
            format!("{held}; the next: {how}"),
            "send the error CAPACITY_REACHED and a closing frame, so that clients know to wait",
        ),
        Limit::Silent(how) => sheet.add(
            Error,
            "hangs",
            "one session too many hangs",
            format!("{held}; the next: {how}"),
            "send the error CAPACITY_REACHED and close",
        ),
        Limit::Failed(how) if sessions == 0 => {
            sheet.unchecked("refusal", "no session could be opened", how.clone());
        }
        Limit::Failed(how) => sheet.add(
            Warning,
            "fails",
            "with many sessions, the next one fails",
            format!("{held}; the next: {how}"),
            "limit the sessions to what the server can hold (max_concurrent_envs)",
        ),
    }
    if sessions == 1 && capacity.is_known() {
        sheet.add(
            Warning,
            "one",
            "the server holds one session",
            held,
            "make the class SUPPORTS_CONCURRENT_SESSIONS and raise max_concurrent_envs, or start one \
             server for each session",
        );
    }
    // A second look at the same would cost as much again.
    let _ = subject.capacity.set(capacity);
    Ok(())
}
