//! The suite that every worker passes.
//!
//! A worker's tests implement [`Subject`] and call [`run_all`]. The checks hold a worker to the
//! contract in [`Worker`](crate::Worker) and to nothing else: they never look at how long something
//! took, and wait for what must come under the subject's watchdog.

mod bench;
mod ends;
mod input;
mod life;
mod many;
mod subject;
mod waits;

use std::panic::{self, AssertUnwindSafe};

pub use subject::Subject;

/// One promise, checked on a worker of its own.
#[derive(Clone, Copy)]
pub struct Check {
    /// What it checks.
    pub name: &'static str,
    /// Panics if the worker does not keep it.
    pub run: fn(&dyn Subject),
}

const fn check(name: &'static str, run: fn(&dyn Subject)) -> Check {
    Check { name, run }
}

/// Every check, in the order in which they are best fixed.
pub const CHECKS: &[Check] = &[
    check("every command is answered once", life::every_command_is_answered_once),
    check("a session is reused by a reset", life::a_session_is_reused_by_a_reset),
    check("the environment says when an episode ends", life::an_episode_ends),
    check("a slot is reopened after a close", life::a_slot_is_reopened_after_a_close),
    check("a batch keeps the order of one slot", life::a_batch_keeps_the_order_of_one_slot),
    check("a slot without a session fails", ends::a_slot_without_a_session_fails),
    check("closing twice is answered twice", ends::closing_twice_is_answered_twice),
    check("a close overtakes a command", ends::a_close_overtakes_a_command),
    check("a close overtakes a command in its batch", ends::a_close_overtakes_in_one_batch),
    check("a close overtakes a slow step", ends::a_close_overtakes_a_slow_step),
    check("a refused action keeps the session", input::a_refused_action_keeps_the_session),
    check("malformed input harms nobody else", input::malformed_input_harms_nobody_else),
    check("a waker ends a wait", waits::a_waker_ends_a_wait),
    check("a waker ends the next wait", waits::a_waker_ends_the_next_wait),
    check("a wait of zero only looks", waits::a_wait_of_zero_only_looks),
    check("an empty batch does nothing", waits::an_empty_batch_does_nothing),
    check("submit empties the batch", waits::submit_empties_the_batch),
    check("many sessions interleave", many::many_sessions_interleave),
    check("many sessions close in mid-step", many::many_sessions_close_in_mid_step),
];

/// Runs every check.
///
/// # Panics
///
/// If any fails; the message names all that did.
pub fn run_all(subject: &dyn Subject) {
    let failed: Vec<&str> = CHECKS
        .iter()
        .filter(|check| panic::catch_unwind(AssertUnwindSafe(|| (check.run)(subject))).is_err())
        .map(|check| check.name)
        .collect();
    assert!(failed.is_empty(), "the worker does not conform: {}", failed.join("; "));
}
