//! Who plays next, and where: what happens between two batches of inputs.

use std::cmp::Reverse;

use envmill_protocol::{Failure, FailureKind, Slot, record::Cancellation};

use crate::{
    Core, Outputs, Time, Trigger,
    alarms::Alarm,
    episode::{Episode, EpisodeKey},
    job::{Ending, Job},
};

/// The most records of never-started episodes handed out in one call, so that cancelling a million
/// of them does not fill the memory at once.
const UNSTARTED_RECORDS_MAX: usize = 1024;

impl Core {
    /// Fires the deadlines that have passed and starts what can be started. To be called after each
    /// batch of inputs, and when [`next_deadline`](Self::next_deadline) has come.
    pub fn settle(&mut self, now: Time, outputs: &mut Outputs) {
        self.now = self.now.max(now);
        while let Some(slot) = self.timers.pop(self.now) {
            self.on_deadline(Slot(slot), outputs);
        }
        while let Some(alarm) = self.alarms.pop(self.now) {
            match alarm {
                Alarm::Score(ticket) => self.on_score_deadline(ticket, outputs),
                Alarm::Group(job, group) => self.on_group_deadline(job, group, outputs),
                Alarm::TakenUp(job, group) => self.on_taken_up(job, group, outputs),
                Alarm::Stragglers(job, group) => self.on_stragglers(job, group, outputs),
            }
        }
        self.requeue_delayed();
        if self.wake_at <= self.now {
            self.wake_at = Time::NEVER;
            self.start_what_can_be(outputs);
        }
        self.send_held(outputs);
    }

    fn start_what_can_be(&mut self, outputs: &mut Outputs) {
        self.compare_servers(outputs);
        for at in 0..self.live.len() {
            let job = self.live[at];
            self.check_deadline(job, outputs);
            self.look_at_version(job, outputs);
        }
        self.share_out(outputs);
        for at in 0..self.live.len() {
            self.look_after(self.live[at], outputs);
            self.look_at_rounds(self.live[at], outputs);
        }
        self.retire(outputs);
        for environment in 0..self.idle.len() {
            if !self.idle[environment].is_empty() && !self.has_work(environment as u32) {
                for slot in std::mem::take(&mut self.idle[environment]) {
                    if self.is_idle_session(slot) {
                        self.close(slot, outputs);
                    }
                }
            }
        }
    }

    fn requeue_delayed(&mut self) {
        while let Some(&Reverse((at, key))) = self.delayed.peek() {
            if at > self.now {
                break;
            }
            self.delayed.pop();
            let Some(job) = self.episode(key).map(|episode| episode.job) else { continue };
            self.jobs[job].delayed -= 1;
            self.jobs[job].queue.push_front(key);
            self.wake_at = Time::ZERO;
        }
    }

    fn check_deadline(&mut self, job: usize, outputs: &mut Outputs) {
        let state = &self.jobs[job];
        if state.is_finished() {
            return;
        }
        if state.deadline <= self.now {
            // It comes once, and also to a job that is being drained.
            self.jobs[job].deadline = Time::NEVER;
            let id = envmill_protocol::JobId(job as u32);
            self.end_job(id, Cancellation::JobDeadline, outputs);
        } else {
            self.wake_at = self.wake_at.min(state.deadline);
        }
        if self.jobs[job].ending.is_none() {
            self.quarantine(job, outputs);
        }
    }

    /// Gives sessions to the jobs in turn, until each has those it may have or no server has room.
    fn share_out(&mut self, outputs: &mut Outputs) {
        self.full.fill(false);
        self.forget_shortage();
        while let Some(job) = self.next_job() {
            if !self.start_one(job, outputs) {
                let environment = self.jobs[job].options.environment as usize;
                self.full[environment] = true;
            }
        }
        self.note_contention();
    }

    /// Starts one episode of a job that has one to start, or has it wait for memory. False if no server
    /// has room.
    fn start_one(&mut self, job: usize, outputs: &mut Outputs) -> bool {
        if self.lacks_memory_for(job) {
            let has_session = self.has_session_for(job);
            if has_session {
                self.wait_for_memory(job);
            }
            return has_session;
        }
        // The second attempt beside a slow one had better be made elsewhere.
        let next = self.jobs[job].queue.front().copied();
        let twin = next.and_then(|key| self.episode(key)?.twin);
        let avoid = twin.and_then(|key| self.episode(key)?.play.server);
        let Some(slot) = self.find_session(job, avoid, outputs) else { return false };
        let server = self.sessions[slot.0 as usize].server;
        let key = match self.jobs[job].queue.pop_front() {
            Some(key) => key,
            None => self.start_next(job, Some(server)),
        };
        self.assign(key, slot, outputs);
        true
    }

    fn look_after(&mut self, job: usize, outputs: &mut Outputs) {
        if self.jobs[job].is_finished() {
            return;
        }
        if self.jobs[job].ending.is_none() {
            self.check_pool(job);
        }
        if self.jobs[job].ending.is_some() {
            self.flush(job, outputs);
        }
    }

    /// Puts a new episode into the table.
    pub(crate) fn insert(&mut self, episode: Episode) -> EpisodeKey {
        if let Some(key) = self.free_episodes.pop() {
            self.episodes[key.0 as usize] = Some(episode);
            return key;
        }
        self.episodes.push(Some(episode));
        EpisodeKey(u32::try_from(self.episodes.len() - 1).unwrap_or(u32::MAX))
    }

    pub(crate) fn episode(&mut self, key: EpisodeKey) -> Option<&mut Episode> {
        self.episodes[key.0 as usize].as_mut()
    }

    /// Has the alarms swept that have nothing to say any more, if they are many.
    pub(crate) fn sweep_alarms(&mut self) {
        let groups: usize = self.live_jobs().map(|job| job.groups.len()).sum();
        if !self.alarms.is_crowded(self.counts.scoring as usize + 2 * groups) {
            return;
        }
        let mut alarms = std::mem::take(&mut self.alarms);
        alarms.sweep(|alarm| match alarm {
            Alarm::Score(ticket) => self.awaits_score(ticket).is_some(),
            Alarm::Group(job, group)
            | Alarm::TakenUp(job, group)
            | Alarm::Stragglers(job, group) => {
                self.jobs.get(job).is_some_and(|job| job.groups.contains_key(&group))
            }
        });
        self.alarms = alarms;
    }

    /// Gives the job up if its pool has shown no sign of life for too long, or can never serve it.
    fn check_pool(&mut self, job: usize) {
        let now = self.now;
        let state = &mut self.jobs[job];
        if !state.has_startable() {
            if state.active == 0 && state.delayed == 0 {
                state.waiting_since = None; // nothing is asked of its servers meanwhile
            }
            return;
        }
        let mut alive_at = *state.waiting_since.get_or_insert(now);
        let state = &self.jobs[job];
        let environment = state.options.environment;
        let mut hopeless = true;
        let mut failure = None;
        for server in self.pool(environment) {
            let status = server.admission.status();
            if status.admitted > 0 || server.constructing > 0 {
                return;
            }
            alive_at = alive_at.max(server.admission.alive_at());
            hopeless &= server.admission.is_hopeless();
            failure = server.admission.last_failure().or(failure);
        }
        let patience = state.options.deadlines.no_server;
        let give_up_at = alive_at + patience;
        if hopeless && let Some(failure) = failure {
            self.jobs[job].ending = Some(Ending::NoServer(failure.clone()));
        } else if give_up_at <= self.now {
            let last = failure.map_or_else(
                || "none of the servers has answered".to_owned(),
                |failure| format!("the last failure was {failure}"),
            );
            self.jobs[job].ending = Some(Ending::NoServer(Failure::lost(
                FailureKind::NoServer,
                format!("no server gave a session for {patience:?}: {last}"),
            )));
        } else {
            self.wake_at = self.wake_at.min(give_up_at);
        }
    }

    /// Records the episodes of an ending job that have no session.
    fn flush(&mut self, job: usize, outputs: &mut Outputs) {
        let Some(ending) = self.jobs[job].ending.clone() else { return };
        if self.jobs[job].delayed > 0 {
            let all = std::mem::take(&mut self.delayed).into_vec();
            for Reverse((at, key)) in all {
                if self.episode(key).is_some_and(|episode| episode.job == job) {
                    self.jobs[job].queue.push_back(key);
                } else {
                    self.delayed.push(Reverse((at, key)));
                }
            }
            self.jobs[job].delayed = 0;
        }
        for _ in 0..UNSTARTED_RECORDS_MAX {
            let key = match self.jobs[job].queue.pop_front() {
                Some(key) => key,
                None if self.jobs[job].unstarted > 0 => self.start_next(job, None),
                None => return,
            };
            if let Some(twin) = self.episode(key).and_then(|episode| episode.twin) {
                self.merge_into(key, twin);
                continue;
            }
            let trigger = match ending {
                Ending::Cancelled(_) => Trigger::Cancel,
                Ending::NoServer(_) => Trigger::Fail,
            };
            let mut counts = std::mem::take(&mut self.counts);
            if let Some(episode) = self.episode(key) {
                episode.advance(trigger, &mut counts);
            }
            self.counts = counts;
            self.record(key, ending.end(), outputs);
        }
        if Job::has_work(&self.jobs[job]) {
            self.wake_at = Time::ZERO;
        }
    }
}
