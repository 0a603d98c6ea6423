//! How many sessions a server gets, and how fast: learned, never read from its configuration.
//!
//! Two numbers are kept for each server. The *window* bounds how many sessions may be waiting for
//! their first reply: it grows by one with each reply that comes fast, so it doubles each round
//! trip on a server that builds thousands of sessions a second, and stays at one or two on one that
//! takes seconds for each. What counts as fast is a matter of milliseconds, so that opening sessions
//! does not delay the steps of those that stand; except on a server whose sessions keep it so busy
//! that they mostly wait for each other: it is slow for new ones too, and yet holds more. The
//! *limit* is how many sessions the server was seen to hold when it
//! refused another; it is probed from time to time, because a refusal may have come from one
//! process of several behind the URL, or from someone else's sessions.

use std::time::Duration;

use envmill_protocol::{Failure, FailureKind, Phase, Retry};

use crate::{Deadlines, Time, random::Random};

/// How servers are admitted to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AdmissionOptions {
    /// Sessions that may wait for their first reply at the start, and again after a failure.
    /// Default 2: a Python server builds sessions one after another anyway, and its running
    /// sessions suffer from more.
    pub window_start: u32,
    /// The most sessions waiting for their first reply. Default 512: below the backlog of common
    /// servers (uvicorn's is 2,048).
    pub window_max: u32,
    /// A first reply within this time lets the window grow, a slower one shrinks it. Default 100 ms.
    /// Where the server's sessions mostly wait for each other (an answer takes four times as long as
    /// the fastest did), eight times the time of an answer counts instead, up to a quarter of the jobs'
    /// deadline for a step: openings must not push steps past it, since sessions that are lost have
    /// to be opened anew. At most 30 s.
    pub first_reply_target: Duration,
    /// The pause after a first failure to reach a server; doubles up to `backoff_max`. Default
    /// 100 ms.
    pub backoff_min: Duration,
    /// The longest pause before an unreachable server is tried again. Default 10 s. A longer
    /// `Retry-After` is kept to, up to 60 s.
    pub backoff_max: Duration,
    /// The pause before a full server is asked for one more session; doubles with each refusal up
    /// to `probe_max`. Default 250 ms.
    pub probe_min: Duration,
    /// The longest pause between two such questions. Default 30 s.
    pub probe_max: Duration,
}

impl Default for AdmissionOptions {
    fn default() -> Self {
        Self {
            window_start: 2,
            window_max: 512,
            first_reply_target: Duration::from_millis(100),
            backoff_min: Duration::from_millis(100),
            backoff_max: Duration::from_secs(10),
            probe_min: Duration::from_millis(250),
            probe_max: Duration::from_secs(30),
        }
    }
}

/// What is known of a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AdmissionStatus {
    /// Sessions whose first reply is outstanding.
    pub opening: u32,
    /// Sessions admitted.
    pub admitted: u32,
    /// Sessions being closed.
    pub closing: u32,
    /// Sessions abandoned in mid-command, counted as occupied until proven free.
    pub ghosts: u32,
    /// The learned limit, if the server ever refused.
    pub limit: Option<u32>,
    /// Sessions that may wait for their first reply.
    pub window: u32,
    /// Refusals so far.
    pub refusals: u64,
    /// Failures to reach it so far, and sessions lost.
    pub failures: u64,
    /// Whether it is given a rest after failures.
    pub down: bool,
    /// The most sessions admitted at one time.
    pub admitted_peak: u32,
    /// Whether it gets no new sessions because it does unlike its pool, or is being probed after that.
    pub ejected: bool,
    /// How often it was sent to rest for that.
    pub ejections: u64,
}

/// Which of a server's counts a session is in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Standing {
    /// In none: there is no session.
    #[default]
    None,
    /// Its first reply is outstanding.
    Opening,
    /// The server has replied to it.
    Admitted,
    /// Its close is under way.
    Closing,
}

/// Whether a server can be asked for a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// Yes.
    Now,
    /// From then on, if nothing happens before.
    At(Time),
    /// When one of the commands under way has been answered.
    AfterAnswer,
}

/// `Retry-After` is kept to, up to this.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);
/// A refusal this soon after a session was closed may only mean that the server has not yet
/// noticed.
const CLOSE_GRACE: Duration = Duration::from_secs(1);
/// The first pause after such a refusal (a real server frees a slot within ~6 ms).
const GRACE_PAUSE: Duration = Duration::from_millis(20);
/// A first reply that takes longer is slow, however long the server takes for its other sessions.
const FIRST_REPLY_MAX: Duration = Duration::from_secs(30);
/// How many answers' time a first reply may take on a busy server: connection, upgrade and reset wait
/// in its queues one after another, each for more than one turn of a busy event loop.
const FIRST_REPLY_ANSWERS: u32 = 8;
/// Answers that take so many times as long as the fastest have mostly waited for others.
const QUEUED: u32 = 4;
/// So many failures in a row that no retry can mend: the server is what it is.
const PERMANENT_AFTER: u32 = 3;

/// What is known of one server, and what follows for new sessions on it.
///
/// [`Core`](crate::Core) has one for each server; so has whoever else opens sessions on servers. It is
/// told what happens, and the time with it, and asks nothing of its own.
#[derive(Debug)]
pub struct Admission {
    options: AdmissionOptions,
    status: AdmissionStatus,
    window_cut_at: Time,
    retry_at: Time,
    failures_in_a_row: u32,
    permanent_in_a_row: u32,
    probe_at: Time,
    probe_pause: Duration,
    grace_pause: Duration,
    closed_at: Option<Time>,
    /// The last time a session was admitted or a command answered.
    alive_at: Time,
    /// How long admitted sessions wait for an answer, smoothed.
    answer_time: Duration,
    /// The shortest that one has waited.
    answer_time_min: Duration,
    /// The shortest that a step has taken.
    step_time_min: Duration,
    /// The most that a first reply may take and be fast.
    first_reply_max: Duration,
    last_failure: Option<Failure>,
}

impl Admission {
    /// Nothing is known yet.
    #[must_use]
    pub fn new(options: AdmissionOptions) -> Self {
        Self {
            options,
            status: AdmissionStatus { window: options.window_start.max(1), ..Default::default() },
            window_cut_at: Time::ZERO,
            retry_at: Time::ZERO,
            failures_in_a_row: 0,
            permanent_in_a_row: 0,
            probe_at: Time::ZERO,
            probe_pause: options.probe_min,
            grace_pause: GRACE_PAUSE,
            closed_at: None,
            alive_at: Time::ZERO,
            answer_time: Duration::ZERO,
            answer_time_min: Duration::MAX,
            step_time_min: Duration::MAX,
            first_reply_max: FIRST_REPLY_MAX,
            last_failure: None,
        }
    }

    /// The server is to play a job with these deadlines, too.
    pub fn serve(&mut self, deadlines: &Deadlines) {
        for deadline in [deadlines.first_reset, deadlines.step].into_iter().flatten() {
            self.first_reply_max = self.first_reply_max.min(deadline / 4);
        }
    }

    /// What is known.
    #[must_use]
    pub const fn status(&self) -> &AdmissionStatus {
        &self.status
    }

    pub(crate) const fn alive_at(&self) -> Time {
        self.alive_at
    }

    /// Why an opening was refused or failed the last time.
    #[must_use]
    pub const fn last_failure(&self) -> Option<&Failure> {
        self.last_failure.as_ref()
    }

    /// Whether everything it answers is of a kind that another try does not change.
    #[must_use]
    pub const fn is_hopeless(&self) -> bool {
        self.permanent_in_a_row >= PERMANENT_AFTER
    }

    /// Whether no further session is to be expected for now: the learned limit is reached.
    pub(crate) fn is_full(&self) -> bool {
        self.status.limit.is_some_and(|limit| self.occupied() >= limit)
    }

    /// Sessions that the server holds as far as is known, in any standing.
    #[must_use]
    pub const fn occupied(&self) -> u32 {
        let status = &self.status;
        status.opening + status.admitted + status.closing + status.ghosts
    }

    /// Whether it can be asked for a session now.
    #[must_use]
    pub fn room(&self, now: Time) -> Room {
        let status = &self.status;
        if now < self.retry_at {
            return Room::At(self.retry_at);
        }
        if status.opening >= if status.down { 1 } else { status.window } {
            return Room::AfterAnswer;
        }
        match status.limit {
            Some(limit) if self.occupied() >= limit => match status.opening {
                0 if now >= self.probe_at => Room::Now,
                0 => Room::At(self.probe_at),
                _ => Room::AfterAnswer,
            },
            _ => Room::Now,
        }
    }

    /// Moves one session from one count to another.
    pub const fn moved(&mut self, from: Standing, to: Standing) {
        if let Some(count) = self.count(from) {
            *count -= 1;
        }
        if let Some(count) = self.count(to) {
            *count += 1;
        }
    }

    const fn count(&mut self, standing: Standing) -> Option<&mut u32> {
        match standing {
            Standing::None => None,
            Standing::Opening => Some(&mut self.status.opening),
            Standing::Admitted => Some(&mut self.status.admitted),
            Standing::Closing => Some(&mut self.status.closing),
        }
    }

    /// A command of an admitted session was answered after `took`: the server lives.
    pub fn answered(&mut self, now: Time, took: Duration) {
        self.alive_at = self.alive_at.max(now);
        self.answer_time = self.answer_time - self.answer_time / 16 + took / 16;
        self.answer_time_min = self.answer_time_min.min(took);
    }

    /// The same, and the command was a step.
    pub fn stepped(&mut self, now: Time, took: Duration) {
        self.answered(now, took);
        self.step_time_min = self.step_time_min.min(took);
    }

    /// A first reset was answered, `took` after the opening began, and its session is among the
    /// admitted. True if the server was down.
    pub fn admitted(&mut self, now: Time, took: Duration) -> bool {
        let recovered = self.status.down;
        self.alive_at = self.alive_at.max(now);
        self.status.down = false;
        self.failures_in_a_row = 0;
        self.permanent_in_a_row = 0;
        self.grace_pause = GRACE_PAUSE;
        self.status.admitted_peak = self.status.admitted_peak.max(self.status.admitted);
        if took <= self.first_reply_target() {
            self.status.window = (self.status.window + 1).min(self.options.window_max);
        } else if now.since(self.window_cut_at) > took {
            // At most one cut for all the replies that were under way together.
            self.window_cut_at = now;
            self.status.window = (self.status.window * 3 / 4).max(1);
        }
        if let Some(limit) = self.status.limit
            && self.status.admitted + self.status.ghosts > limit
        {
            // One more than was thought possible: a ghost is gone, or there is more room.
            if self.status.ghosts > 0 {
                self.status.ghosts -= 1;
            } else {
                self.status.limit = Some(self.status.admitted);
            }
            self.probe_pause = self.options.probe_min;
            self.probe_at = now;
        }
        recovered
    }

    /// Within what time a first reply is fast.
    fn first_reply_target(&self) -> Duration {
        let target = self.options.first_reply_target;
        if self.answer_time > self.answer_time_min.saturating_mul(QUEUED) {
            return (FIRST_REPLY_ANSWERS * self.answer_time).min(self.first_reply_max).max(target);
        }
        target
    }

    /// By how much an answer takes longer than the fastest step, if steps mostly wait for each other
    /// and there is room for more sessions. A reset that is faster than any step says nothing of that.
    pub(crate) fn queueing(&self) -> Option<f64> {
        let fastest = self.step_time_min.max(Duration::from_nanos(1));
        let times = self.answer_time.as_secs_f64() / fastest.as_secs_f64();
        (times > f64::from(QUEUED) && !self.is_full()).then_some(times)
    }

    /// An opening was refused for want of room. The limit, if this taught a new one.
    pub fn refused(&mut self, now: Time, failure: Failure, random: &mut Random) -> Option<u32> {
        self.status.refusals += 1;
        self.permanent_in_a_row = 0; // it has room for others, so another try may change that
        let retry_after = failure.retry_after.unwrap_or_default().min(RETRY_AFTER_MAX);
        self.retry_at = self.retry_at.max(now + retry_after);
        self.last_failure = Some(failure);
        self.status.window = (self.status.window / 2).max(1);
        let held = self.status.admitted + self.status.ghosts;
        let known = self.status.limit;
        let just_closed = self.closed_at.is_some_and(|at| now.since(at) < CLOSE_GRACE);
        if known.is_some_and(|limit| held < limit) && just_closed {
            self.retry_at = self.retry_at.max(now + random.jitter(self.grace_pause));
            self.grace_pause = (self.grace_pause * 2).min(CLOSE_GRACE);
            return None;
        }
        self.probe_at = now + random.jitter(self.probe_pause);
        self.probe_pause = (self.probe_pause * 2).min(self.options.probe_max);
        if known.is_none_or(|limit| held < limit) {
            self.status.limit = Some(held);
            return Some(held);
        }
        None
    }

    /// An opening failed in another way. True if the server was thought to be up until now.
    pub fn open_failed(&mut self, now: Time, failure: Failure, random: &mut Random) -> bool {
        self.status.failures += 1;
        self.failures_in_a_row += 1;
        // A deadline, also one that belongs to the episode, only says that it took too long this time.
        let is_late = matches!(failure.kind, FailureKind::Deadline(_));
        if !is_late && failure.kind.retry(Phase::Connect) == Retry::Never {
            self.permanent_in_a_row += 1;
        } else {
            self.permanent_in_a_row = 0;
        }
        let doublings = (self.failures_in_a_row - 1).min(16);
        let pause = (self.options.backoff_min * (1 << doublings)).min(self.options.backoff_max);
        let retry_after = failure.retry_after.unwrap_or_default().min(RETRY_AFTER_MAX);
        self.retry_at = now + random.jitter(pause).max(retry_after);
        self.status.window = self.options.window_start.max(1);
        if matches!(failure.kind, FailureKind::Deadline(_)) && self.status.admitted > 0 {
            // It serves those it has and has no time for more.
            self.status.window = 1;
            self.status.limit = Some(self.status.admitted + self.status.ghosts);
            self.probe_at = now + random.jitter(self.probe_pause);
            self.probe_pause = (self.probe_pause * 2).min(self.options.probe_max);
        }
        self.last_failure = Some(failure);
        !std::mem::replace(&mut self.status.down, true)
    }

    /// A session that had been admitted is gone without having been closed by us.
    pub const fn lost(&mut self, now: Time) {
        self.status.failures += 1;
        self.closed_at = Some(now);
    }

    /// A session was closed; `abandoned` if the server may still be busy with its last command.
    pub fn closed(&mut self, now: Time, abandoned: bool) {
        self.status.ghosts += u32::from(abandoned);
        self.closed_at = Some(now);
    }

    /// It was restarted: what it held is gone, and it may be tried at once.
    pub(crate) const fn restarted(&mut self) {
        self.retry_at = Time::ZERO;
        self.probe_at = Time::ZERO;
        self.probe_pause = self.options.probe_min;
        self.status.ghosts = 0;
        self.permanent_in_a_row = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quick_resets_beside_long_steps_are_no_queue() {
        let mut admission = Admission::new(AdmissionOptions::default());
        admission.answered(Time::ZERO, Duration::from_millis(1));
        for _ in 0..100 {
            admission.stepped(Time::ZERO, Duration::from_secs(1));
        }
        assert_eq!(admission.queueing(), None);
        for _ in 0..100 {
            admission.stepped(Time::ZERO, Duration::from_secs(8));
        }
        assert!(admission.queueing().is_some_and(|times| times > 7.0));
    }
}
