//! What follows from an answer, and from one that does not come.

use std::{mem, time::Duration};

use envmill_protocol::{
    Event, Failure, FailureKind, Observed, Outcome, Phase, Request, SessionFate,
};

use super::Round;
use crate::{
    Actions, Measured, meter,
    session::{Next, Session, State},
};

/// So many failures on end, and a session that outlived them is given up.
const FAILURES_MAX: u32 = 3;

impl<W: Measured, A: Actions> Round<'_, '_, W, A> {
    pub(super) fn event(&mut self, event: Event, now: u64) {
        let Some(index) = event.slot.0.checked_sub(self.load.first_slot) else { return };
        let index = index as usize;
        let Some(session) = self.sessions.get(index) else { return };
        if session.generation != event.generation {
            return;
        }
        match (session.state, event.outcome) {
            (State::Opening, Outcome::Opened) => {
                self.meter.connected(now - session.sent_at);
                self.reset(index, Next::FirstReset, now);
            }
            (State::FirstReset, Outcome::Reset(observed)) => self.admitted(index, &observed, now),
            (State::Stepping, Outcome::Stepped(observed)) => self.stepped(index, &observed, now),
            (State::Resetting, Outcome::Reset(observed)) => {
                self.answered(index, false, false, now);
                self.act(index, &observed, now);
            }
            (State::Closing, Outcome::Closed) => self.enter(index, State::Gone, now),
            (State::Closing | State::Gone | State::Unasked, _) => {}
            (_, Outcome::Failed(failure)) => self.failed(index, failure, now),
            // A worker answers what it was asked.
            _ => {}
        }
    }

    fn admitted(&mut self, index: usize, observed: &Observed, now: u64) {
        let Session { sent_at, asked_at, .. } = self.sessions[index];
        self.meter.first_reset(now - sent_at);
        self.window.admitted(now, Duration::from_nanos(now - asked_at));
        self.opening -= 1;
        self.counts.admitted += 1;
        self.counts.last_admitted = now;
        self.act(index, observed, now);
    }

    fn stepped(&mut self, index: usize, observed: &Observed, now: u64) {
        let session = &mut self.sessions[index];
        session.step += 1;
        session.failures = 0;
        let is_cut = self.load.plan.max_steps.is_some_and(|most| session.step >= most);
        let has_ended = observed.ended.is_some() || is_cut;
        self.answered(index, true, has_ended, now);
        if has_ended && self.goes_on {
            self.reset(index, Next::Reset, now);
        } else {
            self.act(index, observed, now);
        }
    }

    fn answered(&mut self, index: usize, is_step: bool, ends_episode: bool, now: u64) {
        self.waiting -= 1;
        let Session { due_at, sent_at, .. } = self.sessions[index];
        self.meter
            .answered(meter::Request { is_step, due_at, sent_at, ended_at: now }, ends_episode);
    }

    /// Decides what a session does next that waits for nothing.
    fn act(&mut self, index: usize, observed: &Observed, now: u64) {
        self.enter(index, State::Idle, now);
        let session = &mut self.sessions[index];
        match self.load.actions.next(session.seed, session.step, observed) {
            Ok(action) => session.action = action,
            Err(why) => {
                self.lose(index, "policy", || why);
                self.close(index);
                return;
            }
        }
        if self.goes_on {
            self.step(index);
        }
    }

    /// Takes a step: now, or in an open loop when one is due.
    pub(super) fn step(&mut self, index: usize) {
        if self.schedule.is_some() {
            self.ready.push_back(index as u32);
        } else {
            self.send_step(index);
        }
    }

    pub(super) fn send_step(&mut self, index: usize) {
        let now = self.sessions[index].since;
        let action = mem::take(&mut self.sessions[index].action);
        let at = if self.schedule.is_some() { self.now() } else { now };
        self.enter(index, State::Turn(Next::Step), at);
        self.push(index, Request::Step { action });
    }

    fn reset(&mut self, index: usize, next: Next, now: u64) {
        let sessions = self.sessions.len() as u32;
        let session = &mut self.sessions[index];
        let seed = self.load.plan.episode_seed(index as u32, sessions, session.episode);
        session.episode += 1;
        (session.seed, session.step) = (seed, 0);
        let parameters = self.load.plan.parameters(seed);
        self.enter(index, State::Turn(next), now);
        self.push(index, Request::Reset { parameters });
    }

    fn failed(&mut self, index: usize, failure: Failure, now: u64) {
        let state = self.sessions[index].state;
        let cause = failure.kind.name();
        let is_lost = failure.session == SessionFate::Lost;
        if state.is_opening() {
            self.opening -= 1;
            if is_refusal(failure.kind) {
                self.counts.refused += 1;
            } else {
                self.counts.failed += 1;
                self.window.failed();
                self.fails(&cause, || failure.message);
            }
            return if is_lost { self.enter(index, State::Gone, now) } else { self.close(index) };
        }
        if state.is_waiting() {
            self.waiting -= 1;
            self.meter.failed(cause.clone());
        }
        let session = &mut self.sessions[index];
        session.failures += 1;
        if is_lost {
            self.lose(index, &cause, || failure.message);
            self.enter(index, State::Gone, now);
        } else if session.failures >= FAILURES_MAX {
            self.lose(index, &cause, || failure.message);
            self.close(index);
        } else {
            self.words.entry(cause).or_insert(failure.message);
            if self.goes_on {
                self.reset(index, Next::Reset, now);
            } else {
                self.enter(index, State::Idle, now);
            }
        }
    }

    /// A session that was admitted is no more.
    fn lose(&mut self, index: usize, cause: &str, words: impl FnOnce() -> String) {
        debug_assert!(self.sessions[index].state.is_admitted());
        self.counts.lost += 1;
        self.fails(cause, words);
    }

    pub(super) fn fails(&mut self, cause: &str, words: impl FnOnce() -> String) {
        *self.failures.entry(cause.to_owned()).or_default() += 1;
        if !self.words.contains_key(cause) {
            self.words.insert(cause.to_owned(), words());
        }
    }

    pub(super) fn close(&mut self, index: usize) {
        let now = self.now();
        self.enter(index, State::Closing, now);
        self.push(index, Request::Close);
    }

    pub(super) fn check_deadlines(&mut self, now: u64) {
        let deadlines = self.load.plan.deadlines;
        for index in 0..self.sessions.len() {
            let session = &self.sessions[index];
            let (phase, most) = match session.state {
                State::Opening => (Phase::Connect, deadlines.connect),
                State::FirstReset => (Phase::FirstReset, deadlines.first_reset),
                State::Resetting => (Phase::Reset, deadlines.reset),
                State::Stepping => (Phase::Step, deadlines.step),
                _ => continue,
            };
            let waited = Duration::from_nanos(now.saturating_sub(session.sent_at));
            if waited >= most {
                self.overdue(index, phase, most);
            }
        }
    }

    /// A request got no answer in time. What may still come could be taken for another's answer: the session is
    /// closed.
    fn overdue(&mut self, index: usize, phase: Phase, most: Duration) {
        let cause = FailureKind::Deadline(phase).name();
        let words = || format!("no answer within {most:?}");
        if self.sessions[index].state.is_opening() {
            self.opening -= 1;
            self.counts.failed += 1;
            self.window.failed();
            self.fails(&cause, words);
        } else {
            self.waiting -= 1;
            self.meter.failed(cause.clone());
            self.lose(index, &cause, words);
        }
        self.close(index);
    }
}

/// Whether a server has no room: in OpenEnv's words, or in those of what stands before it.
const fn is_refusal(kind: FailureKind) -> bool {
    matches!(kind, FailureKind::Capacity | FailureKind::UpgradeRefused { status: 429 | 503 })
}
