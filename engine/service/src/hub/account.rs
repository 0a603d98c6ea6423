//! Records on their way from a player to the delivery.

use envmill_core::has_variance;
use envmill_delivery::{Finished, JobKey, Kind, RecordError, Version};
use envmill_protocol::{
    PolicyVersion, Trajectory,
    record::{End, GroupOutcome, GroupRecord},
};
use envmill_wire as wire;
use prost::Message as _;

use super::Hub;
use crate::metrics::Of;

/// A policy version as the delivery knows it.
pub(crate) const fn delivered(version: PolicyVersion) -> Version {
    Version { lineage: version.lineage() as u32, step: version.step() }
}

/// A delivery's version as a policy version; what does not fit was never accepted.
pub(crate) fn played(version: Version) -> PolicyVersion {
    let lineage = u16::try_from(version.lineage).unwrap_or(u16::MAX);
    PolicyVersion::new(lineage, version.step).unwrap_or_default()
}

/// The oldest version that an episode was made on: what its generations say, or else what was current
/// when its attempt began.
fn oldest(trajectory: &Trajectory) -> PolicyVersion {
    let spans = trajectory.generations.iter().flat_map(|it| &it.policy_versions);
    let said = spans.chain(&trajectory.tokens.policy_versions).map(|span| span.version).min();
    said.unwrap_or(trajectory.timing.policy_version_started)
}

impl Hub {
    pub(super) fn record(&mut self, mut trajectory: Trajectory) {
        let Some(&key) = self.ids.get(&trajectory.job_id) else {
            tracing::debug!(id = trajectory.trajectory_id, "a record of a job that was forgotten");
            return;
        };
        let Some(job) = self.jobs.get_mut(&key) else { return };
        let Some(index) = envmill_core::episode_of(&job.id, &trajectory.trajectory_id) else {
            return;
        };
        let (id, group) = (index.0, trajectory.group_id);
        if self.delivery.has_recorded(key, Kind::Trajectory, id) {
            // The player was killed after the journal had it, and before it knew.
            tracing::warn!(id = trajectory.trajectory_id, "an episode was recorded before");
            return;
        }
        job.begun.complete(id, &mut trajectory);
        job.ledger().count(&trajectory.end);
        self.metrics.episode(&job.asked.environment, &trajectory);
        let has_groups = job.has_groups;
        if has_groups {
            job.open.add(&trajectory);
        }
        let is_usable = matches!(trajectory.end, End::Completed { .. } | End::Truncated(_));
        let version = delivered(oldest(&trajectory));
        let payload = wire::trajectory(trajectory).encode_to_vec().into();
        self.keep(key, Finished { id, kind: Kind::Trajectory, group, version, payload });
        if !has_groups {
            let _ = self.delivery.release(key, group, is_usable);
        }
    }

    /// A group's record and its release go into the journal together.
    pub(super) fn record_group(&mut self, mut record: GroupRecord) {
        let Some(&key) = self.ids.get(&record.job_id) else { return };
        let Some(job) = self.jobs.get_mut(&key) else { return };
        let group = record.group_id;
        if self.delivery.has_recorded(key, Kind::Group, group) {
            return;
        }
        job.open.complete(&mut record);
        job.ledger().count_group(&record);
        if let Some(sampling) = &mut job.sampling {
            sampling.add(&record);
        }
        let of = Of { environment: job.asked.environment.clone() };
        self.metrics.groups.get_or_create(&of).inc();
        if has_variance(&record) == Some(false) {
            self.metrics.groups_unvaried.get_or_create(&of).inc();
        }
        job.open.remove(group);
        let is_usable = record.outcome == GroupOutcome::Complete;
        let version = self.delivery.version(key).unwrap_or_default();
        let payload = wire::group(record).encode_to_vec().into();
        self.keep(key, Finished { id: group, kind: Kind::Group, group, version, payload });
        let _ = self.delivery.release(key, group, is_usable);
    }

    /// A job is over; its account is the last that is delivered of it.
    pub(super) fn record_end(&mut self, key: JobKey) {
        let Some(job) = self.jobs.get(&key) else { return };
        if let Some(desk) = &job.desk {
            desk.close();
        }
        if self.delivery.has_recorded(key, Kind::End, 0) {
            return;
        }
        let payload = job.account().encode_to_vec().into();
        let version = self.delivery.version(key).unwrap_or_default();
        self.keep(key, Finished { id: 0, kind: Kind::End, group: 0, version, payload });
    }

    fn keep(&mut self, key: JobKey, finished: Finished) {
        let (kind, id) = (finished.kind, finished.id);
        match self.delivery.record(key, finished) {
            Ok(()) | Err(RecordError::AlreadyRecorded { .. }) => {}
            Err(error) => tracing::error!(%error, ?kind, id, "a record was not taken"),
        }
    }
}
