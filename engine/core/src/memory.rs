//! Memory that is reserved for episodes before they begin, so that what has begun can always end.
//!
//! A job that says what an episode may take at most begins a group only where that is free for all of its
//! members together, and each member gives its part back with its record. Nothing that has begun waits
//! for memory, therefore, and there is always somebody who goes on and gives some back. Another attempt
//! at an episode plays in the part of the first; a second one beside it has a part of its own, and is not
//! begun where there is none.
//!
//! Jobs begin in the order in which they are served ([`fairness`](crate::fairness)). While there is too
//! little for the one whose turn it is, no other job begins anything either, so that small groups do not
//! overtake a large one for ever. Nobody waits like that for what a paused job keeps: that may be long.

use crate::{Core, JobOptions, OptionsError, Time, job::Job};

/// The memory of the episodes under way.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    /// What all jobs together have reserved.
    reserved: u64,
    /// Whether what is free is kept for a job that needs more than that. Only while sessions are given out.
    is_claimed: bool,
    /// Whether a job could not begin something when sessions were given out last.
    is_short: bool,
}

/// How things stand with the memory of episodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryStatus {
    /// What there is for all of them: [`Options::steps_bytes_max`](crate::Options::steps_bytes_max).
    pub bytes_max: u64,
    /// What is reserved for those that have begun; never more than there is.
    pub reserved: u64,
    /// Jobs that would begin another group, or without groups an episode, if more was free.
    pub jobs_waiting: u32,
}

impl JobOptions {
    /// What is reserved before a group begins, or without groups an episode.
    #[must_use]
    pub fn group_bytes_max(&self) -> u64 {
        let members = self.group.map_or(1, |group| group.members());
        self.episode_bytes_max.unwrap_or(0).saturating_mul(members.into())
    }

    /// Whether a core that has `most` bytes for episodes would ever begin a group.
    ///
    /// # Errors
    ///
    /// [`OptionsError::Memory`] if not.
    pub fn check_memory(&self, most: u64) -> Result<(), OptionsError> {
        if self.group_bytes_max() <= most {
            return Ok(());
        }
        Err(OptionsError::Memory {
            members: self.group.map_or(1, |group| group.members()),
            episode_bytes: self.episode_bytes_max.unwrap_or(0),
            most,
        })
    }
}

impl Job {
    /// What one of its episodes reserves.
    fn episode_bytes(&self) -> u64 {
        self.options.episode_bytes_max.unwrap_or(0)
    }

    /// Whether what it starts next has no memory yet.
    fn must_reserve(&self) -> bool {
        self.queue.is_empty() && !self.has_begun_group()
    }

    /// What it would have to reserve to begin something.
    fn next_bytes(&self) -> u64 {
        let torn = self.group_to_take_up().and_then(|group| self.groups.get(&group));
        let recorded = torn.map_or(0, |group| group.members.len() as u64);
        (u64::from(self.members) - recorded).saturating_mul(self.episode_bytes())
    }
}

impl Core {
    /// How things stand with the memory of episodes.
    #[must_use]
    pub fn memory(&self) -> MemoryStatus {
        MemoryStatus {
            bytes_max: self.options.steps_bytes_max,
            reserved: self.memory.reserved,
            jobs_waiting: self.live_jobs().filter(|job| job.lacks_memory).count() as u32,
        }
    }

    /// What was played of the episodes that are not recorded, whether it was reserved or not. Looks at each.
    #[must_use]
    pub fn held_bytes(&self) -> u64 {
        self.episodes.iter().flatten().map(|episode| episode.play.bytes).sum()
    }

    /// What the jobs together have reserved.
    pub(crate) const fn reserved(&self) -> u64 {
        self.memory.reserved
    }

    /// Sessions are about to be given out: every job may ask again.
    pub(crate) fn forget_shortage(&mut self) {
        self.memory.is_claimed = false;
        if std::mem::take(&mut self.memory.is_short) {
            for &job in &self.live {
                self.jobs[job].lacks_memory = false;
            }
        }
    }

    /// Whether there is memory for what a job would begin next.
    pub(crate) fn may_reserve(&self, job: usize) -> bool {
        let bytes = self.jobs[job].next_bytes();
        bytes == 0 || !self.memory.is_claimed && self.has_free(bytes)
    }

    /// Whether so many bytes are not reserved.
    pub(crate) const fn has_free(&self, bytes: u64) -> bool {
        self.memory.reserved.saturating_add(bytes) <= self.options.steps_bytes_max
    }

    /// Whether a job can start nothing without more memory than there is for it.
    pub(crate) fn lacks_memory_for(&self, job: usize) -> bool {
        self.jobs[job].must_reserve() && !self.may_reserve(job)
    }

    /// Has a job wait until there is memory for what it would begin next.
    pub(crate) fn wait_for_memory(&mut self, job: usize) {
        self.jobs[job].lacks_memory = true;
        self.memory.is_short = true;
        let kept = self.live_jobs().filter(|job| job.is_paused || job.is_held);
        let kept: u64 = kept.map(|job| job.reserved).sum();
        if self.jobs[job].next_bytes() <= self.options.steps_bytes_max.saturating_sub(kept) {
            self.memory.is_claimed = true;
        }
    }

    /// Reserves what a group needs that is about to start a member, or without groups an episode. One that
    /// has it already is left alone.
    pub(crate) fn reserve_for(&mut self, job: usize, group: u64) {
        let state = &mut self.jobs[job];
        let mut episodes = 1;
        if let Some(group) = state.groups.get_mut(&group) {
            if std::mem::replace(&mut group.has_begun, true) {
                return;
            }
            episodes = u64::from(state.members) - group.members.len() as u64;
        }
        self.reserve(job, episodes);
    }

    /// Reserves what so many episodes may take.
    pub(crate) fn reserve(&mut self, job: usize, episodes: u64) {
        let state = &mut self.jobs[job];
        let bytes = episodes.saturating_mul(state.episode_bytes());
        state.reserved += bytes;
        self.memory.reserved += bytes;
    }

    /// Whether a second attempt at an episode of a job may be begun beside the first.
    pub(crate) fn has_memory_for_twin(&self, job: usize) -> bool {
        let bytes = self.jobs[job].episode_bytes();
        bytes == 0 || self.has_free(bytes)
    }

    /// Gives back what an episode had reserved.
    pub(crate) fn unreserve(&mut self, job: usize) {
        let state = &mut self.jobs[job];
        let bytes = state.episode_bytes();
        state.reserved -= bytes;
        self.memory.reserved -= bytes;
        self.look_at_shortage();
    }

    /// Has the jobs looked at again that wait for memory, if there are any: some has come free, or what
    /// was kept for one need not be.
    pub(crate) fn look_at_shortage(&mut self) {
        if self.memory.is_short {
            self.wake_at = Time::ZERO;
        }
    }
}
