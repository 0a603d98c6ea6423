//! Jobs that may not go on for now, or begin nothing, because nobody takes their records.

use envmill_protocol::{Failure, FailureKind, JobId, Phase, Slot};

use crate::{Core, Outputs, Time, Trigger, episode::EpisodeKey};

impl Core {
    pub(crate) fn pause(&mut self, job: JobId) {
        if let Some(job) = self.jobs.get_mut(job.0 as usize).filter(|job| !job.is_ended) {
            job.is_paused = true;
            self.look_at_shortage();
        }
    }

    pub(crate) fn slow(&mut self, id: JobId, outputs: &mut Outputs) {
        let Some(job) = self.jobs.get_mut(id.0 as usize) else { return };
        job.is_slowed = true;
        self.look_at_shortage();
        self.go_on(id, outputs);
    }

    pub(crate) fn hold(&mut self, job: JobId) {
        if let Some(job) = self.jobs.get_mut(job.0 as usize) {
            job.is_held = true;
            self.look_at_shortage();
        }
    }

    pub(crate) fn resume(&mut self, id: JobId, outputs: &mut Outputs) {
        let Some(job) = self.jobs.get_mut(id.0 as usize) else { return };
        if std::mem::replace(&mut job.is_slowed, false) && !job.is_ended && !job.is_paused {
            job.waiting_since = Some(self.now);
            self.wake_at = Time::ZERO;
        }
        self.go_on(id, outputs);
    }

    /// Gives the turns that a pause has kept.
    fn go_on(&mut self, job: JobId, outputs: &mut Outputs) {
        let Some(job) = self.jobs.get_mut(job.0 as usize) else { return };
        if !std::mem::replace(&mut job.is_paused, false) || job.is_ended {
            return;
        }
        // Its servers were not asked for anything meanwhile.
        job.waiting_since = Some(self.now);
        self.wake_at = Time::ZERO;
        for (slot, generation) in std::mem::take(&mut job.paused) {
            let session = &self.sessions[slot.0 as usize];
            let key = session.episode.filter(|_| session.generation == generation);
            let Some(key) = key else { continue };
            let Some(episode) = self.episodes[key.0 as usize].as_mut() else { continue };
            let Some(since) = episode.play.paused_at.take() else { continue };
            let deadline = &mut episode.play.deadline;
            *deadline = deadline.map(|deadline| deadline + self.now.since(since));
            episode.advance(Trigger::Released, &mut self.counts);
            self.open_turn(slot, key, outputs);
        }
    }

    /// Keeps a turn of a paused job until it goes on. False if the job is not paused.
    pub(crate) fn pause_turn(&mut self, slot: Slot, key: EpisodeKey) -> bool {
        let Some(episode) = self.episodes[key.0 as usize].as_mut() else { return false };
        let job = &mut self.jobs[episode.job];
        if !job.is_paused {
            return false;
        }
        episode.advance(Trigger::Held, &mut self.counts);
        episode.play.paused_at = Some(self.now);
        job.paused.push((slot, self.sessions[slot.0 as usize].generation));
        let kept = job.options.deadlines.of(Phase::Policy);
        self.timers.set(slot.0, kept.map_or(Time::NEVER, |kept| self.now + kept));
        true
    }

    /// A paused episode's session has waited for so long that its server may count it as left.
    pub(crate) fn give_up_paused(&mut self, slot: Slot, key: EpisodeKey, outputs: &mut Outputs) {
        let Some(episode) = self.episodes[key.0 as usize].as_ref() else { return };
        let kept = self.jobs[episode.job].options.deadlines.of(Phase::Policy).unwrap_or_default();
        let message = format!("the job was paused for {kept:?}");
        let failure = Failure::lost(FailureKind::Paused, message);
        self.release(slot, false, outputs);
        self.fail_attempt(key, failure, Phase::Policy, outputs);
    }
}
