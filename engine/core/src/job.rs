//! A job: a request for episodes, and what is left of it.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use envmill_protocol::{
    EpisodeIndex, Failure,
    record::{Cancellation, End},
};

use crate::{
    JobOptions, OptionsError, Time, budget::Budget, episode::EpisodeKey, fairness::Share,
    groups::Group, random,
};

#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) options: JobOptions,
    /// Episodes that have not been started and have no record.
    pub(crate) unstarted: u64,
    /// Members of each group; 1 without groups.
    pub(crate) members: u32,
    /// The first group that has not been started. Without groups each episode is one.
    pub(crate) next_group: u64,
    /// How many groups there are, refills included.
    pub(crate) groups_total: u64,
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
    /// Since when it waits for a sign of life from its pool.
    pub(crate) waiting_since: Time,
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

impl Job {
    pub(crate) fn new(options: JobOptions, now: Time) -> Result<Self, OptionsError> {
        if options.sessions_max == 0 {
            return Err(OptionsError::Zero("the number of sessions"));
        }
        if options.attempts_max == 0 {
            return Err(OptionsError::Zero("the number of attempts"));
        }
        if options.max_steps == Some(0) {
            return Err(OptionsError::Zero("the number of steps"));
        }
        if options.weight == 0 {
            return Err(OptionsError::Zero("the weight"));
        }
        if let Some(group) = &options.group {
            group.check(options.episodes)?;
        }
        let parameters = options.reset_parameters.trim_ascii();
        let is_object = parameters.starts_with(b"{") && parameters.ends_with(b"}");
        if !parameters.is_empty() && !is_object {
            return Err(OptionsError::ResetParameters);
        }
        let deadline = options.deadlines.job.map_or(Time::NEVER, |job| now + job);
        let members = options.group.map_or(1, |group| group.members());
        let samples = options.group.map_or(1, |group| group.samples);
        let groups_total = options.episodes / u64::from(samples);
        Ok(Self {
            unstarted: groups_total * u64::from(members),
            members,
            next_group: 0,
            groups_total,
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
            waiting_since: now,
            ending: None,
        })
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

    /// The reset parameters of the episodes of one group: the job's object with the seed put in, unless the job
    /// fixes a seed itself.
    pub(crate) fn parameters(&self, group: u64) -> Bytes {
        let Some(seed) = self.environment_seed(group) else {
            return self.options.reset_parameters.clone();
        };
        let rest = self.options.reset_parameters.trim_ascii();
        let inner = rest.get(1..).unwrap_or_default().trim_ascii_start();
        let mut text = Vec::with_capacity(24 + inner.len());
        text.extend_from_slice(format!("{{\"seed\":{seed}").as_bytes());
        if inner.is_empty() || inner == b"}" {
            text.push(b'}');
        } else {
            // A `seed` of the job's own comes later in the object and therefore wins.
            text.push(b',');
            text.extend_from_slice(inner);
        }
        Bytes::from(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters(given: &'static str, send_seed: bool) -> Bytes {
        let options = JobOptions {
            reset_parameters: Bytes::from_static(given.as_bytes()),
            seed: 40,
            send_seed,
            ..JobOptions::default()
        };
        Job::new(options, Time::ZERO).unwrap().parameters(2)
    }

    #[test]
    fn the_seed_joins_the_reset_parameters() {
        assert_eq!(parameters("", true), r#"{"seed":42}"#);
        assert_eq!(parameters(" {} ", true), r#"{"seed":42}"#);
        assert_eq!(parameters(r#"{ "split": "a" }"#, true), r#"{"seed":42,"split": "a" }"#);
        assert_eq!(parameters(r#"{"split":"a"}"#, false), r#"{"split":"a"}"#);
        assert_eq!(parameters("", false), "");
    }

    #[test]
    fn what_is_no_object_is_refused() {
        let options =
            JobOptions { reset_parameters: Bytes::from_static(b"[1]"), ..JobOptions::default() };
        assert_eq!(Job::new(options, Time::ZERO).unwrap_err(), OptionsError::ResetParameters);
    }
}
