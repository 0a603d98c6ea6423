//! Second attempts beside slow ones, and what becomes of the one that loses.

use envmill_protocol::{Failure, FailureKind, record::Attempt};

use crate::{
    Core, Driver, Outputs, State, Time,
    alarms::Alarm,
    episode::{Episode, EpisodeKey},
};

/// Why one of two attempts at an episode is given up, as it stands in the record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dropped {
    pub(crate) cause: &'static str,
    pub(crate) message: &'static str,
}

/// Another attempt was faster.
pub(crate) const DUPLICATE: Dropped =
    Dropped { cause: "duplicate", message: "another attempt at it was faster" };

/// An attempt is a straggler when it has taken so many times as long as the slowest usable member.
const SLOWER: u32 = 2;

impl Core {
    /// Looks for members that take much longer than the others, once half of the others are there.
    pub(crate) fn look_for_stragglers(&mut self, job: usize, number: u64, outputs: &mut Outputs) {
        let state = &self.jobs[job];
        let Some(options) = state.options.group.filter(|it| it.duplicate_stragglers) else {
            return;
        };
        let Some(group) = state.groups.get(&number) else { return };
        if group.usable < options.members().div_ceil(2) || state.ending.is_some() {
            return;
        }
        let patience = group.slowest * SLOWER;
        let (mut due, mut next) = (Vec::new(), Time::NEVER);
        for &key in &group.live {
            let Some(episode) = self.episodes[key.0 as usize].as_ref() else { continue };
            if !is_under_way(episode) || episode.twin.is_some() {
                continue;
            }
            let at = episode.play.began_at + patience;
            if at <= self.now {
                due.push(key);
            } else {
                next = next.min(at);
            }
        }
        for key in due {
            self.duplicate(key, outputs);
        }
        if let Some(group) = self.jobs[job].groups.get_mut(&number)
            && next < group.stragglers_at.unwrap_or(Time::NEVER)
        {
            group.stragglers_at = Some(next);
            self.alarms.set(next, Alarm::Stragglers(job, number));
        }
    }

    pub(crate) fn on_stragglers(&mut self, job: usize, number: u64, outputs: &mut Outputs) {
        let Some(group) = self.jobs[job].groups.get_mut(&number) else { return };
        group.stragglers_at = None;
        self.look_for_stragglers(job, number, outputs);
    }

    /// Puts a second attempt into the queue beside the one under way, if that is allowed.
    fn duplicate(&mut self, key: EpisodeKey, outputs: &mut Outputs) {
        let Some(episode) = self.episodes[key.0 as usize].as_ref() else { return };
        let (job, group) = (episode.job, episode.group);
        let options = &self.jobs[job].options;
        let attempts = u32::try_from(episode.attempts.len()).unwrap_or(u32::MAX);
        let may_repeat = !options.production || options.idempotent;
        let is_policy = options.driver == Driver::Policy;
        if !may_repeat || !is_policy || attempts.saturating_add(2) > options.attempts_max {
            return;
        }
        if !self.has_memory_for_twin(job) {
            return; // it is asked for again when another member has ended
        }
        let server = episode.play.server.unwrap_or_default();
        if self.spend(job, server, outputs).is_err() {
            return; // the budget says so itself
        }
        let Some(twin) = self.episodes[key.0 as usize].as_ref().map(|it| it.twin_of(key)) else {
            return;
        };
        let twin = self.insert(twin);
        self.reserve(job, 1);
        self.counts.episodes_by_state[State::Queued as usize] += 1;
        self.counts.duplicates += 1;
        if let Some(episode) = self.episode(key) {
            episode.twin = Some(twin);
        }
        let job = &mut self.jobs[job];
        job.queue.push_front(twin);
        if let Some(group) = job.groups.get_mut(&group) {
            group.duplicates += 1;
        }
        self.wake_at = Time::ZERO;
    }

    /// Drops the other attempt at the same episode, if there is one, and keeps what it took.
    pub(crate) fn drop_twin(&mut self, winner: EpisodeKey, why: Dropped, outputs: &mut Outputs) {
        let Some(loser) = self.episode(winner).and_then(|episode| episode.twin) else { return };
        let Some(episode) = self.episodes[loser.0 as usize].as_ref() else { return };
        let slot = episode.play.slot;
        match slot {
            Some(slot) => self.cancel_turn(slot, outputs),
            None => self.dequeue(loser),
        }
        let now = self.now;
        if let Some(episode) = self.episodes[loser.0 as usize].as_mut() {
            let server = episode.play.server.unwrap_or_default();
            let name = &self.servers[server.0 as usize].options.name;
            let failure = Failure::kept(FailureKind::Limit, why.message);
            if episode.close_attempt(now, name, Some(&failure))
                && let Some(attempt) = episode.attempts.last_mut()
            {
                attempt.cause = why.cause.into();
            }
            episode.play.slot = None;
        }
        if let Some(slot) = slot {
            let job = self.episodes[loser.0 as usize].as_ref().map(|episode| episode.job);
            if let Some(job) = job {
                self.jobs[job].leave(now);
            }
            self.wake_at = Time::ZERO;
            self.release(slot, true, outputs);
        }
        self.merge_into(loser, winner);
    }

    /// Takes an episode without a session out of the table and adds its attempts to its twin's.
    pub(crate) fn merge_into(&mut self, loser: EpisodeKey, winner: EpisodeKey) {
        let Some(loser_episode) = self.episodes[loser.0 as usize].take() else { return };
        self.free_episodes.push(loser);
        self.unreserve(loser_episode.job);
        self.counts.episodes_by_state[loser_episode.state() as usize] -= 1;
        let job = &mut self.jobs[loser_episode.job];
        if let Some(group) = job.groups.get_mut(&loser_episode.group)
            && let Some(live) = group.live.iter_mut().find(|live| **live == loser)
        {
            *live = winner;
        }
        let Some(episode) = self.episode(winner) else { return };
        episode.twin = None;
        let own = std::mem::take(&mut episode.attempts);
        let mut all: Vec<(Attempt, u64)> = loser_episode
            .attempts
            .into_iter()
            .chain(own)
            .zip(loser_episode.tokens.into_iter().chain(std::mem::take(&mut episode.tokens)))
            .collect();
        all.sort_by_key(|(attempt, _)| attempt.started_us);
        (episode.attempts, episode.tokens) = all.into_iter().unzip();
        episode.suspicions.extend(loser_episode.suspicions);
    }

    /// Takes an episode out of the queue that it waits in.
    pub(crate) fn dequeue(&mut self, key: EpisodeKey) {
        let Some(job) = self.episode(key).map(|episode| episode.job) else { return };
        let job = &mut self.jobs[job];
        let before = job.queue.len();
        job.queue.retain(|queued| *queued != key);
        if job.queue.len() == before {
            let delayed = self.delayed.len();
            self.delayed.retain(|std::cmp::Reverse((_, waiting))| *waiting != key);
            job.delayed -= u32::from(self.delayed.len() < delayed);
        }
    }
}

const fn is_under_way(episode: &Episode) -> bool {
    matches!(
        episode.state(),
        State::Opening | State::Resetting | State::AwaitingPolicy | State::Stepping
    )
}
