//! Groups: what becomes of the members once some of them have a score.
//!
//! A group is in the job's table from its first member's start to its last member's record. Its
//! members are *live* (under way), *held* (scored, waiting for the group's filter) or recorded. All
//! decisions about a group are here, and they are made after scoring only: enough members are usable
//! and the rest is cut; nobody is live any more and the filter speaks; everybody is recorded and the
//! group has its own record.

use envmill_protocol::{
    EpisodeIndex, JobId, ServerId,
    record::{Cancellation, End, FirstObservations, MemberRecord},
};

use crate::{
    Core, GroupFilter, Note, Outputs, State, Time, Trigger,
    alarms::Alarm,
    episode::{Episode, EpisodeKey},
    poison::Suspicion,
    random,
};

/// A group from its first member's start to its last member's record.
#[derive(Debug, Default)]
pub(crate) struct Group {
    /// Members started, or recorded by an earlier run.
    pub(crate) started: u32,
    /// Whether members are played, and memory is reserved for all that have no record.
    pub(crate) has_begun: bool,
    /// The place of its task in the set of the job.
    pub(crate) task: Option<u32>,
    /// The sample to look at for the next one to start: they are started in their order.
    next_sample: u32,
    /// Members under way.
    pub(crate) live: Vec<EpisodeKey>,
    /// Members that are scored and wait for the filter.
    held: Vec<EpisodeKey>,
    /// Members that ended completed or truncated and have their score.
    pub(crate) usable: u32,
    /// Whether the filter has spoken.
    pub(crate) decided: bool,
    /// Whether it was the filter that ended it.
    pub(crate) filtered: bool,
    pub(crate) members: Vec<MemberRecord>,
    pub(crate) started_at: Time,
    /// The hash of the first observation that came first, and whether one differed from it.
    first: Option<u64>,
    differs: bool,
    pub(crate) duplicates: u32,
    /// The longest that a usable member took, from the start of its attempt.
    pub(crate) slowest: std::time::Duration,
    /// When it is looked at next for stragglers, if it is.
    pub(crate) stragglers_at: Option<Time>,
    /// How many members were started on which server.
    pub(crate) placed: Vec<(ServerId, u32)>,
    pub(crate) suspicions: Vec<Suspicion>,
}

impl Group {
    pub(crate) fn new(task: Option<u32>, now: Time) -> Self {
        Self { task, started_at: now, ..Self::default() }
    }

    pub(crate) fn first_observations(&self) -> FirstObservations {
        let seen = self.members.iter().filter(|member| member.first_observation.is_some());
        match (self.differs, seen.count()) {
            (true, _) => FirstObservations::Differ,
            (false, 0 | 1) => FirstObservations::Unknown,
            (false, _) => FirstObservations::Agree,
        }
    }

    /// Takes note of a first observation. True if it is the first one that differs.
    pub(crate) fn see_first(&mut self, hash: u64) -> bool {
        let differs = *self.first.get_or_insert(hash) != hash;
        differs && !std::mem::replace(&mut self.differs, true)
    }
}

impl Core {
    /// A started episode for the next unstarted one of `job`, to be played on `server` if it is to be
    /// played at all.
    pub(crate) fn start_next(&mut self, job: usize, server: Option<ServerId>) -> EpisodeKey {
        let pool = self.pools[self.jobs[job].options.environment as usize].len();
        let now = self.now;
        let has_memory = self.may_reserve(job);
        let state = &mut self.jobs[job];
        let (group, opened) = state.next_member_group(server, pool, has_memory, now);
        if opened {
            let deadline = state.options.group.and_then(|options| options.deadline);
            let at = deadline.map_or(Time::NEVER, |deadline| now + deadline);
            self.alarms.set(at, Alarm::Group(job, group));
            self.sweep_alarms();
        }
        if server.is_some() {
            self.reserve_for(job, group);
        }
        let key = self.start_member(job, group);
        let has_groups = self.jobs[job].options.group.is_some();
        if let Some(episode) = self.episode(key) {
            episode.has_reserved = server.is_some() && !has_groups;
        }
        key
    }

    /// Starts the next member of a group, or the one episode where there are no groups.
    fn start_member(&mut self, job: usize, group: u64) -> EpisodeKey {
        let state = &mut self.jobs[job];
        state.unstarted -= 1;
        let first = group * u64::from(state.members);
        let mut sample = state.groups.get(&group).map_or(0, |group| group.next_sample);
        let recorded = &state.options.recorded;
        let index = |sample: u32| EpisodeIndex(first + u64::from(sample));
        while recorded.contains(index(sample)) && sample + 1 < state.members {
            sample += 1;
        }
        let index = index(sample);
        let task = match state.groups.get(&group) {
            Some(group) => group.task,
            None => state.draw(group),
        };
        let mut episode = Episode::new(
            job,
            index,
            random::policy_seed(state.options.seed, index.0),
            state.parameters(group, task),
            self.now,
            &mut self.counts,
        );
        (episode.group, episode.sample, episode.task) = (group, sample, task);
        let key = self.insert(episode);
        let state = &mut self.jobs[job];
        if let Some(group_state) = state.groups.get_mut(&group) {
            group_state.started += 1;
            group_state.next_sample = sample + 1;
            group_state.live.push(key);
            if group_state.started == state.members {
                state.filling.retain(|other| *other != group);
            }
        }
        key
    }

    /// Takes note of how an episode of a group began.
    pub(crate) fn see_first_observation(&mut self, key: EpisodeKey, outputs: &mut Outputs) {
        let Some(episode) = self.episodes[key.0 as usize].as_mut() else { return };
        let job = &mut self.jobs[episode.job];
        let Some(group) = job.groups.get_mut(&episode.group) else { return };
        let Some(reset) = &episode.play.reset else { return };
        let hash = envmill_protocol::record::observation_hash(&reset.observation);
        episode.first_observation = Some(hash);
        if group.see_first(hash) {
            self.counts.groups_differing += 1;
            if !std::mem::replace(&mut job.told_of_difference, true) {
                let job = JobId(u32::try_from(episode.job).unwrap_or(u32::MAX));
                let group = episode.group;
                outputs.notes.push(Note::FirstObservationsDiffer { job, group });
            }
        }
    }

    /// A member was played to an end that counts, and its score stands.
    pub(crate) fn member_scored(&mut self, key: EpisodeKey, end: End, outputs: &mut Outputs) {
        let Some(episode) = self.episodes[key.0 as usize].as_mut() else { return };
        let (job, number) = (episode.job, episode.group);
        let state = &mut self.jobs[job];
        let Some(options) = state.options.group else { return };
        let Some(group) = state.groups.get_mut(&number) else { return };
        group.usable += 1;
        let ended_at = episode.ended_at.map_or(self.now, |(at, _)| at);
        group.slowest = group.slowest.max(ended_at.since(episode.play.began_at));
        let is_enough = group.usable >= options.target();
        if options.filter == GroupFilter::None {
            self.conclude(key, end, outputs);
        } else if group.decided {
            // By an earlier run, which did not come to write this member down.
            let end =
                if group.filtered { End::Filtered(options.filter.name().into()) } else { end };
            self.conclude(key, end, outputs);
        } else {
            group.live.retain(|live| *live != key);
            group.held.push(key);
            episode.pending = Some(end);
            episode.advance(Trigger::Scored, &mut self.counts);
        }
        if is_enough {
            self.cut(job, number, Cancellation::Cut, outputs);
        } else {
            self.look_for_stragglers(job, number, outputs);
        }
        self.decide(job, number, outputs);
    }

    /// Gives up what is left of a group.
    pub(crate) fn cut(
        &mut self,
        job: usize,
        number: u64,
        why: Cancellation,
        outputs: &mut Outputs,
    ) {
        let Some(group) = self.jobs[job].groups.get_mut(&number) else { return };
        for key in group.live.clone() {
            self.give_up(key, End::Cancelled(why), outputs);
        }
        self.end_unstarted(job, number, &End::Cancelled(why), outputs);
    }

    /// Ends an episode that has not ended yet, wherever it is.
    fn give_up(&mut self, key: EpisodeKey, end: End, outputs: &mut Outputs) {
        let Some(episode) = self.episodes[key.0 as usize].as_ref() else { return };
        match episode.play.slot {
            Some(slot) => self.cancel_turn(slot, outputs),
            None if episode.state() == State::Queued => self.dequeue(key),
            None => {}
        }
        self.finish(key, end, outputs);
    }

    /// Records the members that were never started.
    pub(crate) fn end_unstarted(
        &mut self,
        job: usize,
        number: u64,
        end: &End,
        outputs: &mut Outputs,
    ) {
        let members = self.jobs[job].members;
        while self.jobs[job].groups.get(&number).is_some_and(|group| group.started < members) {
            let key = self.start_member(job, number);
            let trigger = match end {
                End::Failed(_) => Trigger::Fail,
                _ => Trigger::Cancel,
            };
            if let Some(episode) = self.episodes[key.0 as usize].as_mut() {
                episode.advance(trigger, &mut self.counts);
            }
            self.record(key, end.clone(), outputs);
        }
    }

    /// Lets the filter speak once nobody is live any more.
    pub(crate) fn decide(&mut self, job: usize, number: u64, outputs: &mut Outputs) {
        let state = &mut self.jobs[job];
        let Some(options) = state.options.group else { return };
        let members = state.members;
        let Some(group) = state.groups.get_mut(&number) else { return };
        if group.decided || group.started < members || !group.live.is_empty() {
            return;
        }
        group.decided = true;
        let held = std::mem::take(&mut group.held);
        if held.is_empty() {
            return;
        }
        let rewards = held.iter().filter_map(|key| self.episodes[key.0 as usize].as_ref());
        let mut rewards = rewards.map(|episode| episode.reward().map(f64::to_bits));
        let first = rewards.next();
        // Equal to the bit: a trainer's advantage is zero then, and only then.
        let filtered = rewards.all(|reward| Some(reward) == first);
        if let Some(group) = state.groups.get_mut(&number) {
            group.filtered = filtered;
        }
        for key in held {
            let Some(episode) = self.episode(key) else { continue };
            let Some(mut end) = episode.pending.take() else { continue };
            if filtered {
                end = End::Filtered(options.filter.name().into());
            }
            self.conclude(key, end, outputs);
        }
    }

    /// A group's deadline has come.
    pub(crate) fn on_group_deadline(&mut self, job: usize, number: u64, outputs: &mut Outputs) {
        self.cut(job, number, Cancellation::GroupDeadline, outputs);
        self.decide(job, number, outputs);
    }
}
