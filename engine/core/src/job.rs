//! A job: a request for episodes, and what is left of it.

use std::collections::VecDeque;

use bytes::Bytes;
use envmill_protocol::{
    EpisodeIndex, Failure,
    record::{Cancellation, End},
};

use crate::{JobOptions, OptionsError, Time, episode::EpisodeKey, random};

#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) options: JobOptions,
    /// The first episode that has not been started; those before it have.
    pub(crate) next: u64,
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
        let parameters = options.reset_parameters.trim_ascii();
        let is_object = parameters.starts_with(b"{") && parameters.ends_with(b"}");
        if !parameters.is_empty() && !is_object {
            return Err(OptionsError::ResetParameters);
        }
        let deadline = options.deadlines.job.map_or(Time::NEVER, |job| now + job);
        Ok(Self {
            options,
            next: 0,
            queue: VecDeque::new(),
            delayed: 0,
            active: 0,
            deadline,
            waiting_since: now,
            ending: None,
        })
    }

    /// Episodes that have not been started and have no record.
    pub(crate) const fn unstarted(&self) -> u64 {
        self.options.episodes - self.next
    }

    /// Whether an episode waits for a session now.
    pub(crate) fn has_work(&self) -> bool {
        self.unstarted() > 0 || !self.queue.is_empty()
    }

    pub(crate) fn is_finished(&self) -> bool {
        !self.has_work() && self.active == 0 && self.delayed == 0
    }

    pub(crate) fn trajectory_id(&self, index: EpisodeIndex) -> String {
        format!("{}-{:08}", self.options.name, index.0)
    }

    pub(crate) fn environment_seed(&self, index: EpisodeIndex) -> Option<u64> {
        self.options.send_seed.then(|| random::environment_seed(self.options.seed, index.0))
    }

    /// The reset parameters of one episode: the job's object with the seed put in, unless the job
    /// fixes a seed itself.
    pub(crate) fn parameters(&self, index: EpisodeIndex) -> Bytes {
        let Some(seed) = self.environment_seed(index) else {
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
        Job::new(options, Time::ZERO).unwrap().parameters(EpisodeIndex(2))
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
