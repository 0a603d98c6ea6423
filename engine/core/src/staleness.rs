//! Episodes under way on policy versions that are too old.
//!
//! They are looked for when a job's version changes, and at no other time: a version can only become too
//! old by a newer one. What was played to its end is left alone, whether it waits for its score, for its
//! group or to be sent: whoever delivers it judges it. So is what waits to be tried again, since nothing
//! of it was made on any version.

use envmill_protocol::{
    PolicyVersion, Slot,
    record::{Cancellation, End},
};

use crate::{
    Core, Outputs,
    episode::{Episode, EpisodeKey},
    stragglers::Dropped,
};

/// Of an attempt that is given up because another one beside it is not stale.
const STALE: Dropped = Dropped {
    cause: "stale",
    message: "another attempt at it began on a policy version that is not too old",
};

impl Core {
    /// Ends the job's episodes under way that began too far behind its version, which is new.
    pub(crate) fn end_stale(&mut self, job: usize, outputs: &mut Outputs) {
        let current = self.jobs[job].versions.current;
        for slot in 0..self.sessions.len() {
            let Some(key) = self.stale_on(Slot(slot as u32), job) else { continue };
            // Before the first observation the policy has not been asked for anything.
            if let Some(episode) = self.episode(key).filter(|it| it.play.reset.is_none()) {
                episode.play.policy_version_started = current;
            }
        }
        for slot in 0..self.sessions.len() {
            let slot = Slot(slot as u32);
            if let Some(key) = self.stale_on(slot, job) {
                self.give_up_stale(slot, key, outputs);
            }
        }
    }

    /// The episode of the job that is played in this slot, if it is stale.
    fn stale_on(&self, slot: Slot, job: usize) -> Option<EpisodeKey> {
        let key = self.sessions[slot.0 as usize].episode?;
        let is_of_job = |episode: &&Episode| episode.job == job;
        let episode = self.episodes[key.0 as usize].as_ref().filter(is_of_job)?;
        self.is_stale(episode).then_some(key)
    }

    /// Whether the attempt under way, if there is one, began too far behind the version of its job.
    fn is_stale(&self, episode: &Episode) -> bool {
        let job = &self.jobs[episode.job];
        let began_on = episode.play.policy_version_started;
        let is_behind = is_behind(began_on, job.versions.current, job.options.staleness_max);
        episode.play.slot.is_some() && is_behind
    }

    /// Ends an episode as stale, or only this attempt at it if there is another that is not.
    fn give_up_stale(&mut self, slot: Slot, key: EpisodeKey, outputs: &mut Outputs) {
        let Some(episode) = self.episodes[key.0 as usize].as_ref() else { return };
        let twin = episode.twin.filter(|twin| {
            let twin = self.episodes[twin.0 as usize].as_ref();
            twin.is_some_and(|twin| !self.is_stale(twin))
        });
        if let Some(twin) = twin {
            return self.drop_twin(twin, STALE, outputs);
        }
        self.cancel_turn(slot, outputs);
        self.finish(key, End::Cancelled(Cancellation::Stale), outputs);
    }
}

/// Whether what began on one version is too old for another.
fn is_behind(began_on: PolicyVersion, current: PolicyVersion, most: Option<u64>) -> bool {
    let steps = current.step().saturating_sub(began_on.step());
    began_on.lineage() < current.lineage() || most.is_some_and(|most| steps > most)
}
