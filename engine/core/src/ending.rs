//! The end of an episode and of a job: one record for each that was requested.

use envmill_protocol::{
    JobId, Slot,
    record::{Cancellation, End},
};

use crate::{
    Core, Outputs, Score, Scoring, Time, Trigger,
    episode::{Episode, EpisodeKey},
    group_end::member,
    job::Ending,
    stragglers::DUPLICATE,
};

impl Core {
    /// Ends an episode and frees its session, if it has one. One that was played goes on to its score.
    pub(crate) fn finish(&mut self, key: EpisodeKey, end: End, outputs: &mut Outputs) {
        self.drop_twin(key, DUPLICATE, outputs);
        self.leave_scoring(key);
        let Some(episode) = self.episodes[key.0 as usize].as_mut() else { return };
        let (job, server) = (episode.job, episode.play.server);
        let trigger = match &end {
            End::Completed { .. } => Trigger::Complete,
            End::Truncated(_) => Trigger::Truncate,
            End::Failed(_) => Trigger::Fail,
            End::Cancelled(_) => Trigger::Cancel,
            End::Stale => Trigger::Expire,
            End::Filtered(_) => Trigger::Filter,
        };
        let was_played = matches!(trigger, Trigger::Complete | Trigger::Truncate);
        if was_played || trigger == Trigger::Filter {
            episode.advance(Trigger::Ended, &mut self.counts);
        }
        if let Some(slot) = episode.play.slot.take() {
            self.jobs[job].leave(self.now);
            self.wake_at = Time::ZERO;
            if let (true, Some(server)) = (was_played, server) {
                self.attempt_ended(server, slot, None, outputs);
            }
            // A session that was cut off between two steps is as good as one that was played out.
            let was_cut = matches!(end, End::Cancelled(Cancellation::Cut | Cancellation::Stale));
            let healthy = was_played || was_cut;
            self.release(slot, healthy, outputs);
        }
        if was_played {
            return self.played(key, end, outputs);
        }
        if let Some(episode) = self.episodes[key.0 as usize].as_mut() {
            episode.advance(trigger, &mut self.counts);
        }
        self.record(key, end, outputs);
    }

    /// Hands out the record of an episode in a terminal state.
    pub(crate) fn record(&mut self, key: EpisodeKey, end: End, outputs: &mut Outputs) {
        let Some(mut episode) = self.episodes[key.0 as usize].take() else { return };
        self.free_episodes.push(key);
        let state = &self.jobs[episode.job];
        if state.versions.pending.is_some() || state.is_finished() {
            self.wake_at = Time::ZERO; // it may have been the last one in flight, or at all
        }
        let state = episode.state();
        self.counts.episodes_by_state[state as usize] -= 1;
        let counts = &mut self.counts;
        *match end {
            End::Completed { .. } => &mut counts.completed,
            End::Truncated(_) => &mut counts.truncated,
            End::Failed(_) => &mut counts.failed,
            End::Cancelled(_) => &mut counts.cancelled,
            End::Stale => &mut counts.stale,
            End::Filtered(_) => &mut counts.filtered,
        } += 1;
        let server = episode.play.server.map(|server| &self.servers[server.0 as usize].options);
        episode.close_attempt(self.now, server.map_or("", |server| &server.name), None);
        let (job, group, first) = (episode.job, episode.group, episode.first_observation);
        let has_reserved = episode.has_reserved;
        let tokens = std::mem::take(&mut episode.tokens);
        if self.jobs[job].options.scoring != Scoring::Environment && episode.score.is_none() {
            // What nobody has judged has no reward, whatever its environment gave.
            episode.score = Some(Score::default());
        }
        let trajectory = episode.into_record(
            server.map(|server| (server.name.as_str(), server.fingerprint.as_str())),
            end,
            &self.jobs,
            self.now,
            self.options.run_started_unix_us,
        );
        if self.jobs[job].options.group.is_none() {
            if has_reserved {
                self.unreserve(job);
            }
            outputs.records.push(trajectory);
            return;
        }
        let member = member(&trajectory, first, tokens);
        // The group's record, if this completes it, comes after its members'.
        outputs.records.push(trajectory);
        self.member_recorded(key, job, group, member, outputs);
    }

    /// Starts nothing more of a job; unless it only drains, gives up what is under way.
    pub(crate) fn end_job(&mut self, job: JobId, why: Cancellation, outputs: &mut Outputs) {
        let index = job.0 as usize;
        let Some(state) = self.jobs.get_mut(index) else { return };
        if state.is_finished() {
            return;
        }
        state.ending = Some(Ending::Cancelled(why));
        self.wake_at = Time::ZERO;
        if why == Cancellation::Drained {
            return;
        }
        for slot in 0..self.sessions.len() {
            let slot = Slot(slot as u32);
            let Some(key) = self.sessions[slot.0 as usize].episode else { continue };
            if self.episodes[key.0 as usize].as_ref().is_some_and(|episode| episode.job == index) {
                self.cancel_turn(slot, outputs);
                self.finish(key, End::Cancelled(why), outputs);
            }
        }
        for key in 0..self.episodes.len() {
            let key = EpisodeKey(key as u32);
            let waits = |episode: &&Episode| episode.job == index && episode.ticket.is_some();
            if self.episodes[key.0 as usize].as_ref().filter(waits).is_some() {
                self.finish(key, End::Cancelled(why), outputs);
            }
        }
    }
}
