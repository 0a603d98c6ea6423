//! Who plays next, and where: what happens between two batches of inputs.

use std::cmp::Reverse;

use envmill_protocol::{EpisodeIndex, Failure, FailureKind, Slot, record::Cancellation};

use crate::{
    Core, Outputs, Time, Trigger,
    admission::Room,
    episode::{Episode, EpisodeKey},
    job::{Ending, Job},
    session::{Session, Waiting},
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
        self.requeue_delayed();
        if self.wake_at > self.now {
            return;
        }
        self.wake_at = Time::NEVER;
        let jobs = self.jobs.len();
        for turn in 0..jobs {
            let job = (self.first_job + turn) % jobs;
            self.look_after(job, outputs);
        }
        self.first_job = (self.first_job + 1).checked_rem(jobs).unwrap_or(0);
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

    fn look_after(&mut self, job: usize, outputs: &mut Outputs) {
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
            self.start_episodes(job, outputs);
            self.check_pool(job);
        }
        if self.jobs[job].ending.is_some() {
            self.flush(job, outputs);
        }
    }

    /// Starts episodes until the job has its sessions or no server has room.
    fn start_episodes(&mut self, job: usize, outputs: &mut Outputs) {
        while self.jobs[job].active < self.jobs[job].options.sessions_max
            && self.jobs[job].has_work()
        {
            let Some(slot) = self.find_session(job, outputs) else { return };
            let key = match self.jobs[job].queue.pop_front() {
                Some(key) => key,
                None => self.start_next(job),
            };
            self.assign(key, slot, outputs);
        }
    }

    /// An idle session of the job's pool, or a slot for a new one on the least occupied server that
    /// has room.
    fn find_session(&mut self, job: usize, outputs: &mut Outputs) -> Option<Slot> {
        let environment = self.jobs[job].options.environment;
        let reuse = self.jobs[job].options.session_reuse;
        while let Some(slot) = self.idle[environment as usize].pop() {
            if !self.is_idle_session(slot) {
                continue;
            }
            if reuse.allows(self.sessions[slot.0 as usize].played) {
                return Some(slot);
            }
            self.close(slot, outputs);
        }
        let mut best: Option<(u32, usize)> = None;
        for (index, server) in self.servers.iter().enumerate() {
            if server.options.environment != environment {
                continue;
            }
            match server.admission.room(self.now) {
                Room::Now => {
                    let occupied = server.admission.occupied();
                    if best.is_none_or(|(least, _)| occupied < least) {
                        best = Some((occupied, index));
                    }
                }
                Room::At(at) => self.wake_at = self.wake_at.min(at),
                Room::AfterAnswer => {}
            }
        }
        let (_, server) = best?;
        if self.counts.sessions >= self.options.slots_max {
            return None; // a slot that gets free wakes us
        }
        let slot = self.free_slots.pop().unwrap_or_else(|| {
            self.sessions.push(Session::free());
            Slot(self.sessions.len() as u32 - 1)
        });
        let session = &mut self.sessions[slot.0 as usize];
        session.server = envmill_protocol::ServerId(server as u32);
        session.serial = self.session_serial;
        self.session_serial += 1;
        let counts = &mut self.counts;
        counts.sessions += 1;
        counts.sessions_peak = counts.sessions_peak.max(counts.sessions);
        Some(slot)
    }

    fn is_idle_session(&self, slot: Slot) -> bool {
        let session = &self.sessions[slot.0 as usize];
        session.waiting == Waiting::Nothing && session.episode.is_none()
    }

    /// A started episode for the next unstarted one of `job`.
    pub(crate) fn start_next(&mut self, job: usize) -> EpisodeKey {
        let state = &mut self.jobs[job];
        let index = EpisodeIndex(state.next);
        state.next += 1;
        let episode = Episode::new(
            job,
            index,
            crate::random::policy_seed(state.options.seed, index.0),
            state.parameters(index),
            self.now,
            &mut self.counts,
        );
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

    /// Gives the job up if its pool has shown no sign of life for too long, or can never serve it.
    fn check_pool(&mut self, job: usize) {
        let state = &self.jobs[job];
        if !state.has_work() {
            return;
        }
        let environment = state.options.environment;
        let mut alive_at = state.waiting_since;
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
                None if self.jobs[job].unstarted() > 0 => self.start_next(job),
                None => return,
            };
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
