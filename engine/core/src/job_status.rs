//! How far a job is.

use envmill_protocol::{JobId, PolicyVersion};

use crate::{Core, job::Job};

/// How a job stands now. Episodes that have their record are in none of the counts, and members of groups
/// that have their score and only wait for their group's filter are in none either.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JobStatus {
    /// Episodes that have not been started.
    pub unstarted: u64,
    /// Attempts at started episodes that wait for a session: again, or a second one beside a slow one.
    pub waiting: u64,
    /// Started episodes that are tried again, and wait for their time.
    pub delayed: u64,
    /// Attempts that hold a session. Of an episode with a second attempt beside its first, both count.
    pub active: u64,
    /// Episodes with the scorer.
    pub scoring: u64,
    /// Bytes of memory that are reserved for what has begun and is not recorded.
    pub reserved_bytes: u64,
    /// Whether it would begin another group, or without groups an episode, if more memory was free.
    pub waits_for_memory: bool,
    /// Whether it was paused and has not been resumed.
    pub is_paused: bool,
    /// Whether it was slowed and has not been resumed.
    pub is_slowed: bool,
    /// Whether it starts nothing: for good ([`Input::Hold`](crate::Input::Hold)), or until nothing is in
    /// flight, since a version waits for that ([`InFlight::Drain`](crate::InFlight::Drain)).
    pub starts_held: bool,
    /// The policy version that attempts begin on.
    pub version: PolicyVersion,
    /// Whether it has ended, and that was told ([`Note::JobEnded`](crate::Note::JobEnded)).
    pub is_ended: bool,
}

impl Core {
    /// How a job stands now; `None` if there is no such job.
    #[must_use]
    pub fn job_status(&self, job: JobId) -> Option<JobStatus> {
        self.jobs.get(job.0 as usize).map(Job::status)
    }
}

impl Job {
    fn status(&self) -> JobStatus {
        JobStatus {
            unstarted: self.unstarted,
            waiting: self.queue.len() as u64,
            delayed: self.delayed.into(),
            active: self.active.into(),
            scoring: self.scoring.into(),
            reserved_bytes: self.reserved,
            waits_for_memory: self.lacks_memory,
            is_paused: self.is_paused,
            is_slowed: self.is_slowed,
            starts_held: self.versions.pending.is_some() || self.is_held,
            version: self.versions.current,
            is_ended: self.is_ended,
        }
    }
}
