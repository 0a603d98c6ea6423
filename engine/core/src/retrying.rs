//! Whether a failed attempt is followed by another.

use std::{cmp::Reverse, time::Duration};

use envmill_protocol::{Failure, FailureKind, Phase, Retry, ServerId};

use crate::{
    Core, OnEnvironmentError, Outputs, State, Trigger,
    episode::{EpisodeKey, Play},
};

/// What becomes of an episode whose attempt has failed.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// Another attempt, after a pause if there is one.
    Again { failure: Failure, pause: Option<Duration> },
    /// It ends with what was played.
    Truncate,
    /// It fails.
    Fail(Failure),
}

impl Core {
    /// Decides on an attempt that has been closed. `was_sent`: its reset has left.
    pub(crate) fn verdict(
        &mut self,
        key: EpisodeKey,
        server: ServerId,
        mut failure: Failure,
        phase: Phase,
        was_sent: bool,
        outputs: &mut Outputs,
    ) -> Verdict {
        let Some(episode) = self.episodes[key.0 as usize].as_ref() else {
            return Verdict::Fail(failure);
        };
        let job = episode.job;
        let options = &self.jobs[job].options;
        let has_acted = episode.state() == State::Stepping || !episode.play.steps.is_empty();
        let mut again = failure.kind.retry(phase);
        if has_acted && failure.kind == FailureKind::Environment {
            again = match options.on_environment_error {
                OnEnvironmentError::Fail => Retry::Never,
                OnEnvironmentError::Retry => Retry::NewSession,
                OnEnvironmentError::Truncate => return Verdict::Truncate,
            };
        } else if has_acted && !failure.kind.is_transport() && failure.kind != FailureKind::Paused {
            again = Retry::Never;
        }
        let may_repeat = !was_sent || !options.production || options.idempotent;
        // Neither the episode nor a server is to blame for a pause.
        let is_paused = failure.kind == FailureKind::Paused;
        let left = is_paused || episode.failed_attempts() < u64::from(options.attempts_max);
        if again == Retry::Never || !may_repeat || !left || self.jobs[job].ending.is_some() {
            return Verdict::Fail(failure);
        }
        if let Some(poison) = self.condemned(key) {
            return Verdict::Fail(poison);
        }
        if !is_paused && let Err(why) = self.spend(job, server, outputs) {
            let session = failure.session;
            let message = format!("{} ({why})", failure.message);
            failure = Failure { session, ..Failure::lost(failure.kind, message) };
            return Verdict::Fail(failure);
        }
        let pause = if let Retry::After(pause) = again { Some(pause) } else { None };
        Verdict::Again { failure, pause }
    }

    /// Puts an episode back into the queue, now or after a pause.
    pub(crate) fn try_again(&mut self, key: EpisodeKey, pause: Option<Duration>) {
        let Some(episode) = self.episodes[key.0 as usize].as_mut() else { return };
        episode.advance(Trigger::Retried, &mut self.counts);
        episode.play = Play::default();
        self.counts.retries += 1;
        let job = &mut self.jobs[episode.job];
        if let Some(pause) = pause {
            job.delayed += 1;
            self.delayed.push(Reverse((self.now + self.random.jitter(pause), key)));
        } else {
            job.queue.push_front(key);
        }
    }
}
