//! Figures about a run, kept as it goes.

use crate::State;

/// Counts since the start, and how things stand now. All bounds and refusals are visible here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Episodes requested, over all jobs; each ends in one record. `extra` of them were not asked for
    /// by number: oversampled ones, and groups in place of filtered ones.
    pub requested: u64,
    /// Oversampled episodes and those of refills, among `requested`.
    pub extra: u64,
    /// Episodes taken from the queue at least once.
    pub started: u64,
    /// Records that ended completed.
    pub completed: u64,
    /// Records that ended truncated.
    pub truncated: u64,
    /// Records that ended failed.
    pub failed: u64,
    /// Records that ended cancelled.
    pub cancelled: u64,
    /// Records that ended stale.
    pub stale: u64,
    /// Records that ended filtered.
    pub filtered: u64,
    /// Steps answered, in all attempts.
    pub steps: u64,
    /// Resets answered, in all attempts.
    pub resets: u64,
    /// Attempts begun: a session was there and the reset was sent.
    pub attempts: u64,
    /// Attempts that failed and were followed by another.
    pub retries: u64,
    /// Second attempts begun beside slow ones.
    pub duplicates: u64,
    /// Retries and duplicates that did not take place because a budget was spent.
    pub budget_refusals: u64,
    /// Episodes that failed because servers died while at their task.
    pub quarantined: u64,
    /// Groups that ended with as many usable members as they need.
    pub groups_complete: u64,
    /// Groups that ended with fewer.
    pub groups_short: u64,
    /// Groups that a filter dropped.
    pub groups_filtered: u64,
    /// Groups started in place of those.
    pub groups_refilled: u64,
    /// Groups whose first observations differ.
    pub groups_differing: u64,
    /// Members cut because their group had enough or its deadline had passed.
    pub cut: u64,
    /// Episodes now with the scorer.
    pub scoring: u32,
    /// Servers sent to rest because they did unlike their pool.
    pub ejections: u64,
    /// Sessions that were admitted (their first reset was answered).
    pub sessions_built: u64,
    /// Sessions refused before they began: full, unreachable or broken servers.
    pub refusals: u64,
    /// Events and decisions that came too late, twice, or for nobody.
    pub ignored: u64,
    /// Sessions now open, opening or closing.
    pub sessions: u32,
    /// The most of them at one time.
    pub sessions_peak: u32,
    /// Sessions now admitted.
    pub sessions_admitted: u32,
    /// Commands now waiting for their answer (close excepted).
    pub requests_in_flight: u32,
    /// The most of them at one time.
    pub requests_in_flight_peak: u32,
    /// Episodes that exist now, by [`State`]; those not yet started are in none.
    pub episodes_by_state: [u32; State::COUNT],
}

impl Counts {
    /// Records handed out.
    #[must_use]
    pub const fn recorded(&self) -> u64 {
        self.completed + self.truncated + self.failed + self.cancelled + self.stale + self.filtered
    }

    /// Episodes now in `state`.
    #[must_use]
    pub const fn in_state(&self, state: State) -> u32 {
        self.episodes_by_state[state as usize]
    }
}
