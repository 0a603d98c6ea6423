//! A job: a request for episodes, and what is left of it.

use std::collections::{BTreeMap, VecDeque};

use envmill_protocol::{
    EpisodeIndex, Failure, Generation, ResetParameters, Slot,
    record::{Cancellation, End},
};

use crate::{
    JobOptions, OptionsError, Task, Time, budget::Budget, episode::EpisodeKey, fairness::Share,
    groups::Group, random, rounds::Draws, versions::Versions,
};

#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) options: JobOptions,
    /// Episodes that have not been started and have no record, of this run or an earlier one.
    pub(crate) unstarted: u64,
    /// Members of each group; 1 without groups.
    pub(crate) members: u32,
    /// The first group that has not been started. Without groups each episode is one.
    pub(crate) next_group: u64,
    /// How many groups there are, refills included.
    pub(crate) groups_total: u64,
    /// Which group plays which task.
    pub(crate) draws: Draws,
    /// Started groups that have members left to start, in the order they were started.
    pub(crate) filling: Vec<u64>,
    /// Groups from their first member's start to their last member's record; empty without groups.
    pub(crate) groups: BTreeMap<u64, Group>,
    /// The filtered groups that others were started in place of, in that order.
    pub(crate) refills: Vec<u64>,
    /// Episodes with the scorer.
    pub(crate) scoring: u32,
    pub(crate) budget: Budget,
    pub(crate) share: Share,
    /// Whether it was told that first observations differ.
    pub(crate) told_of_difference: bool,
    /// Started episodes that wait for a session (again).
    pub(crate) queue: VecDeque<EpisodeKey>,
    /// Episodes that wait for their time to be tried again.
    pub(crate) delayed: u32,
    /// Episodes that hold a session.
    pub(crate) active: u32,
    pub(crate) deadline: Time,
    /// Bytes of memory that are reserved for what it has begun.
    pub(crate) reserved: u64,
    /// Whether it could begin nothing for want of memory, when sessions were given out last.
    pub(crate) lacks_memory: bool,
    /// Whether all of it is recorded and that has been told.
    pub(crate) is_ended: bool,
    pub(crate) is_paused: bool,
    /// Nothing is begun for now; what has begun goes on.
    pub(crate) is_slowed: bool,
    /// Nothing is started any more.
    pub(crate) is_held: bool,
    /// Turns that wait for the job to go on. May hold some that have been given up since.
    pub(crate) paused: Vec<(Slot, Generation)>,
    /// Since when it waits for a sign of life from its pool; `None` while it may start nothing.
    pub(crate) waiting_since: Option<Time>,
    pub(crate) versions: Versions,
    /// Set when nothing more is to be started, and what becomes of what was not.
    pub(crate) ending: Option<Ending>,
}

/// Why a job starts no more episodes.
#[derive(Clone, Debug)]
pub(crate) enum Ending {
    Cancelled(Cancellation),
    NoServer(Failure),
}

impl Ending {
    pub(crate) fn end(&self) -> End {
        match self {
            Self::Cancelled(why) => End::Cancelled(*why),
            Self::NoServer(failure) => End::Failed(failure.clone()),
        }
    }
}

impl JobOptions {
    /// Whether a core would take the job on, as far as that does not depend on the core.
    ///
    /// # Errors
    ///
    /// [`OptionsError`] says what to change.
    pub fn check(&self) -> Result<(), OptionsError> {
        if self.sessions_max == 0 {
            return Err(OptionsError::Zero("the number of sessions"));
        }
        if self.attempts_max == 0 {
            return Err(OptionsError::Zero("the number of attempts"));
        }
        if self.max_steps == Some(0) {
            return Err(OptionsError::Zero("the number of steps"));
        }
        if self.episode_bytes_max == Some(0) {
            return Err(OptionsError::Zero("the number of bytes of an episode"));
        }
        if self.weight == 0 {
            return Err(OptionsError::Zero("the weight"));
        }
        if let Some(group) = &self.group {
            group.check(self.episodes)?;
        }
        self.tasks.check()?;
        let parameters = self.reset_parameters.trim_ascii();
        let is_object = parameters.starts_with(b"{") && parameters.ends_with(b"}");
        if !parameters.is_empty() && !is_object {
            return Err(OptionsError::ResetParameters);
        }
        Ok(())
    }
}

impl Job {
    pub(crate) fn new(options: JobOptions, now: Time) -> Result<Self, OptionsError> {
        options.check()?;
        let deadline = options.deadlines.job.map_or(Time::NEVER, |job| now + job);
        let members = options.group.map_or(1, |group| group.members());
        let samples = options.group.map_or(1, |group| group.samples);
        let groups_total = options.episodes / u64::from(samples);
        let mut job = Self {
            unstarted: 0,
            members,
            next_group: 0,
            groups_total,
            draws: Draws::new(&options.tasks),
            filling: Vec::new(),
            groups: BTreeMap::new(),
            refills: Vec::new(),
            scoring: 0,
            budget: Budget::default(),
            share: Share::default(),
            told_of_difference: false,
            options,
            queue: VecDeque::new(),
            delayed: 0,
            active: 0,
            deadline,
            reserved: 0,
            lacks_memory: false,
            is_ended: false,
            is_paused: false,
            is_slowed: false,
            is_held: false,
            paused: Vec::new(),
            waiting_since: Some(now),
            versions: Versions::default(),
            ending: None,
        };
        job.unstarted = job.take_all_up(now);
        job.pass_begun();
        Ok(job)
    }

    /// Whether an episode waits for a session now.
    pub(crate) fn has_work(&self) -> bool {
        self.unstarted > 0 || !self.queue.is_empty()
    }

    pub(crate) fn is_finished(&self) -> bool {
        !self.has_work() && self.active == 0 && self.delayed == 0 && self.scoring == 0
    }

    pub(crate) fn trajectory_id(&self, index: EpisodeIndex) -> String {
        format!("{}-{:08}", self.options.name, index.0)
    }

    /// The seed that the episodes of a group are reset with.
    pub(crate) fn environment_seed(&self, group: u64) -> Option<u64> {
        self.options.send_seed.then(|| random::environment_seed(self.options.seed, group))
    }

    /// The place in the set of the task that a group plays, if there are tasks. Groups that have begun know
    /// theirs.
    pub(crate) fn draw(&mut self, group: u64) -> Option<u32> {
        self.draws.task(&self.options.tasks, self.options.seed, group)
    }

    fn task(&self, place: Option<u32>) -> Option<&Task> {
        self.options.tasks.as_slice().get(place? as usize)
    }

    /// The name of the task with this place; empty without tasks.
    pub(crate) fn task_id(&self, place: Option<u32>) -> String {
        self.task(place).map_or_else(String::new, |task| task.id.clone())
    }

    /// The reset parameters of the episodes of one group: the seed, the job's object and those of the task
    /// with this place, in one. Of equal keys the last wins, so that a job may fix the seed and a task
    /// anything.
    pub(crate) fn parameters(&self, group: u64, task: Option<u32>) -> ResetParameters {
        let task = self.task(task).map(|task| &task.parameters[..]).unwrap_or_default();
        let seed = self.environment_seed(group);
        ResetParameters::joined(seed, [&self.options.reset_parameters, task])
    }
}

/// The episode of the job `name` whose trajectory has this id; `None` if it is of another job.
#[must_use]
pub fn episode_of(name: &str, trajectory_id: &str) -> Option<EpisodeIndex> {
    let digits = trajectory_id.strip_prefix(name)?.strip_prefix('-')?;
    digits.parse().ok().map(EpisodeIndex)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn the_seed_joins_the_reset_parameters() {
        let options = |send_seed| JobOptions {
            reset_parameters: Bytes::from_static(br#"{ "split": "a" }"#),
            seed: 40,
            send_seed,
            ..JobOptions::default()
        };
        let of = |send_seed| Job::new(options(send_seed), Time::ZERO).unwrap().parameters(2, None);
        assert_eq!(of(true).text, r#"{"seed":42,"split": "a" }"#);
        assert_eq!((of(true).seed, of(false).seed), (Some(42), None));
    }

    #[test]
    fn a_task_wins_over_the_job() {
        let parameters = Bytes::from_static(br#"{"level":3,"seed":17}"#);
        let task = Task { id: "hard".into(), parameters, ..Task::default() };
        let options = JobOptions {
            reset_parameters: Bytes::from_static(br#"{"level":1}"#),
            tasks: crate::Tasks::new(vec![task]),
            ..JobOptions::default()
        };
        let mut job = Job::new(options, Time::ZERO).unwrap();
        let task = job.draw(5);
        let parameters = job.parameters(5, task);
        assert_eq!(parameters.text, r#"{"level":3,"seed":17}"#);
        assert_eq!(parameters.seed, Some(17));
        assert_eq!(job.task_id(task), "hard");
    }

    #[test]
    fn what_is_recorded_is_not_started() {
        let mut recorded = crate::EpisodeSet::default();
        for index in [0, 2, 3, 9] {
            recorded.insert(EpisodeIndex(index));
        }
        let options =
            JobOptions { episodes: 5, recorded: recorded.into(), ..JobOptions::default() };
        let mut job = Job::new(options, Time::ZERO).unwrap();
        assert_eq!((job.unstarted, job.extra()), (2, 0));
        let mut next = || job.next_member_group(None, 1, true, Time::ZERO).0;
        assert_eq!([next(), next()], [1, 4]);
    }

    #[test]
    fn ids_name_their_episodes() {
        let job = Job::new(JobOptions { name: "a-1".into(), ..JobOptions::default() }, Time::ZERO);
        let id = job.unwrap().trajectory_id(EpisodeIndex(7));
        assert_eq!(episode_of("a-1", &id), Some(EpisodeIndex(7)));
        assert_eq!(episode_of("a", &id), None);
        assert_eq!(episode_of("b", &id), None);
    }

    #[test]
    fn what_is_no_object_is_refused() {
        let options =
            JobOptions { reset_parameters: Bytes::from_static(b"[1]"), ..JobOptions::default() };
        assert_eq!(Job::new(options, Time::ZERO).unwrap_err(), OptionsError::ResetParameters);
    }
}
