//! The policy versions of jobs: which one a job is on, and which one waits for its episodes to end.

use envmill_protocol::{JobId, PolicyVersion};

use crate::{Core, InFlight, Note, Outputs, Time, job::Job};

/// The policy versions of one job.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Versions {
    /// What attempts begin on.
    pub(crate) current: PolicyVersion,
    /// What they will begin on when no episode is in flight. While there is one, none is started.
    pub(crate) pending: Option<PolicyVersion>,
}

impl Versions {
    /// Whether the version is larger than all before it.
    fn is_news(&self, version: PolicyVersion) -> bool {
        version > self.pending.unwrap_or(self.current)
    }
}

impl Job {
    /// Whether an episode was started and is neither recorded nor scored.
    pub(crate) fn has_in_flight(&self) -> bool {
        !self.queue.is_empty() || self.delayed > 0 || self.active > 0 || self.scoring > 0
    }
}

impl Core {
    /// The trainer has announced a version.
    pub(crate) fn on_policy_version(
        &mut self,
        id: JobId,
        version: PolicyVersion,
        in_flight: InFlight,
        outputs: &mut Outputs,
    ) {
        let job = id.0 as usize;
        let Some(state) = self.jobs.get_mut(job) else { return };
        if state.is_ended || !state.versions.is_news(version) {
            return;
        }
        state.versions.pending = Some(version);
        self.look_at_shortage();
        let state = &self.jobs[job];
        if in_flight == InFlight::Keep || !state.has_in_flight() {
            self.take_version(job, outputs);
        }
    }

    /// Makes the version that a job waits for the job's, if nothing is in flight any more.
    pub(crate) fn look_at_version(&mut self, job: usize, outputs: &mut Outputs) {
        if !self.jobs[job].has_in_flight() {
            self.take_version(job, outputs);
        }
    }

    fn take_version(&mut self, job: usize, outputs: &mut Outputs) {
        let versions = &mut self.jobs[job].versions;
        let Some(version) = versions.pending.take() else { return };
        versions.current = version;
        self.end_stale(job, outputs);
        // What was not started may be now.
        self.wake_at = Time::ZERO;
        let job = JobId(u32::try_from(job).unwrap_or(u32::MAX));
        outputs.notes.push(Note::VersionCurrent { job, version });
    }
}
