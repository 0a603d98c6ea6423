//! Which job is served next.
//!
//! What jobs share is the time of sessions. Each job's use of it, divided by its weight, is its
//! virtual time, and the job with the smallest is served first. A session under way counts a second
//! beforehand, so that jobs which start many sessions at one moment get them in proportion, too; in
//! the long run the time that was really used decides, however long episodes are. A job that had
//! nothing to start does not save up for later: when it comes back it begins where the others are.

use crate::{Core, Time, job::Job};

/// What a session counts when it begins, in nanoseconds.
const BEFOREHAND_NS: u128 = 1_000_000_000;
/// Virtual time is in nanoseconds times this over the weight.
const SCALE: u128 = 1 << 20;

/// A job's use of sessions.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Share {
    /// Session-nanoseconds up to `since`, and what was lost by having nothing to start.
    used: u128,
    since: Time,
    /// Whether it could not get all the sessions it wanted, when it was last looked at.
    contends: bool,
}

impl Job {
    /// An episode gets a session.
    pub(crate) fn hold(&mut self, now: Time) {
        self.accrue(now);
        self.active += 1;
    }

    /// An episode gives its session back.
    pub(crate) fn leave(&mut self, now: Time) {
        self.accrue(now);
        self.active -= 1;
    }

    fn accrue(&mut self, now: Time) {
        let share = &mut self.share;
        share.used += now.since(share.since).as_nanos() * u128::from(self.active);
        share.since = now;
    }

    /// Whether it has something to start and may, if it gets a session.
    pub(crate) fn has_startable(&self) -> bool {
        !self.lacks_memory && self.has_startable_with_memory()
    }

    /// The same, if there was memory enough.
    fn has_startable_with_memory(&self) -> bool {
        self.ending.is_none() && !self.is_paused && (!self.queue.is_empty() || self.may_start_new())
    }

    /// Whether it has something to start and may have one more session.
    pub(crate) fn wants_session(&self) -> bool {
        self.active < self.options.sessions_max && self.has_startable()
    }

    fn virtual_time(&mut self, now: Time) -> u128 {
        self.accrue(now);
        let ahead = u128::from(self.active) * BEFOREHAND_NS;
        (self.share.used + ahead) * SCALE / u128::from(self.options.weight.max(1))
    }

    /// Moves its virtual time up to `least`.
    fn catch_up(&mut self, least: u128) {
        let ahead = u128::from(self.active) * BEFOREHAND_NS;
        let least = (least * u128::from(self.options.weight.max(1)) / SCALE).saturating_sub(ahead);
        self.share.used = self.share.used.max(least);
    }
}

impl Core {
    /// The job to be served next among those whose environment is not in `full`: of the highest
    /// priority that wants a session, the one with the smallest virtual time.
    pub(crate) fn next_job(&mut self) -> Option<usize> {
        let mut best: Option<(i32, u128, usize)> = None;
        for at in 0..self.live.len() {
            let index = self.live[at];
            let job = &mut self.jobs[index];
            let environment = job.options.environment as usize;
            if self.full[environment] || !job.wants_session() {
                continue;
            }
            if !std::mem::replace(&mut job.share.contends, true) {
                job.catch_up(self.virtual_time[environment]);
            }
            let (priority, time) = (job.options.priority, job.virtual_time(self.now));
            if best.is_none_or(|(highest, least, _)| {
                priority > highest || (priority == highest && time < least)
            }) {
                best = Some((priority, time, index));
            }
        }
        let (_, time, index) = best?;
        let environment = self.jobs[index].options.environment as usize;
        self.virtual_time[environment] = self.virtual_time[environment].max(time);
        Some(index)
    }

    /// Notes which jobs were left wanting.
    pub(crate) fn note_contention(&mut self) {
        for &job in &self.live {
            let job = &mut self.jobs[job];
            job.share.contends =
                job.active < job.options.sessions_max && job.has_startable_with_memory();
        }
    }
}
