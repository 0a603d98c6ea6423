//! Turns: the policy's and the external driver's.

use std::sync::Arc;

use envmill_protocol::{
    Decision, EpisodeStart, Failure, FailureKind, JobId, Phase, PolicyError, Slot, Turn,
    record::{End, Truncation},
};

use crate::{
    Core, Driver, External, ExternalTurn, Outputs, State, Trigger, episode::EpisodeKey,
    limits::NotTaken, session::Waiting,
};

impl Core {
    /// Hands the turn to the policy, or the episode to its external driver.
    pub(crate) fn open_turn(&mut self, slot: Slot, key: EpisodeKey, outputs: &mut Outputs) {
        if self.pause_turn(slot, key) {
            return;
        }
        let Some(episode) = self.episodes[key.0 as usize].as_mut() else { return };
        let job = &self.jobs[episode.job];
        let play = &mut episode.play;
        play.turn_opened_at = self.now;
        let observed = play.steps.last().map_or(play.reset.as_ref(), |step| Some(&step.observed));
        let start = play.steps.is_empty().then(|| {
            Arc::new(EpisodeStart {
                task_id: job.task_id(episode.task),
                reset_parameters: episode.parameters.text.clone(),
            })
        });
        let turn = Turn {
            slot,
            generation: self.sessions[slot.0 as usize].generation,
            job: JobId(u32::try_from(episode.job).unwrap_or(u32::MAX)),
            episode: episode.index,
            seed: episode.policy_seed,
            step: u32::try_from(play.steps.len()).unwrap_or(u32::MAX),
            environment: job.options.environment,
            observed: observed.cloned().unwrap_or_default(),
            start,
        };
        match job.options.driver {
            Driver::Policy => outputs.turns.push(turn),
            Driver::External => outputs.handed.push(turn),
        }
        self.arm(slot, Phase::Policy);
    }

    pub(crate) fn on_decision(&mut self, decision: Decision, outputs: &mut Outputs) {
        let Some(key) = self.turn(decision.slot, decision.generation, Driver::Policy) else {
            self.counts.ignored += 1;
            return;
        };
        let Some(episode) = self.episodes[key.0 as usize].as_mut() else { return };
        if episode.state() != State::AwaitingPolicy {
            self.counts.ignored += 1;
            return;
        }
        episode.play.policy_us = micros(self.now.since(episode.play.turn_opened_at));
        let action = match self.take_generations(key, decision.generations) {
            Ok(()) if self.take_spoken(key, decision.spoken) => decision.action,
            Ok(()) | Err(NotTaken::TooLarge) => {
                return self.finish(key, End::Truncated(Truncation::EpisodeBytes), outputs);
            }
            Err(NotTaken::Impossible(why)) => Err(PolicyError::new(why.to_string())),
        };
        let Some(episode) = self.episodes[key.0 as usize].as_mut() else { return };
        match action {
            Ok(action) => {
                episode.play.action = action;
                self.step_or_hold(decision.slot, outputs);
            }
            Err(PolicyError { truncates: Some(why), .. }) => {
                self.finish(key, End::Truncated(why), outputs);
            }
            Err(error) => {
                let failure = Failure::kept(FailureKind::Policy, error.message);
                self.release(decision.slot, false, outputs);
                self.fail_attempt(key, failure, Phase::Policy, outputs);
            }
        }
    }

    /// The episode whose turn this is, if it still is.
    fn turn(
        &self,
        slot: Slot,
        generation: envmill_protocol::Generation,
        driver: Driver,
    ) -> Option<EpisodeKey> {
        let session = self.sessions.get(slot.0 as usize)?;
        let is_turn = session.generation == generation && session.waiting == Waiting::Nothing;
        let key = session.episode.filter(|_| is_turn)?;
        let job = self.episodes[key.0 as usize].as_ref()?.job;
        (self.jobs[job].options.driver == driver).then_some(key)
    }

    pub(crate) fn on_external(&mut self, external: External, outputs: &mut Outputs) {
        let slot = external.slot;
        let Some(key) = self.turn(slot, external.generation, Driver::External) else {
            self.counts.ignored += 1;
            return;
        };
        let Some(episode) = self.episodes[key.0 as usize].as_mut() else { return };
        match (external.turn, episode.state()) {
            (ExternalTurn::Opened, State::AwaitingPolicy) => {
                episode.play.turn_opened_at = self.now;
                episode.advance(Trigger::StepSent, &mut self.counts);
                self.arm(slot, Phase::Step);
            }
            (ExternalTurn::Closed { steps, generations }, State::Stepping) => {
                self.counts.steps += steps.len() as u64;
                let limit = match self.take_generations(key, generations) {
                    Ok(()) => self.take_steps(key, steps),
                    Err(NotTaken::TooLarge) => Some(Truncation::EpisodeBytes),
                    Err(NotTaken::Impossible(why)) => {
                        let failure = Failure::kept(FailureKind::Policy, why.to_string());
                        self.release(slot, false, outputs);
                        return self.fail_attempt(key, failure, Phase::Policy, outputs);
                    }
                };
                if let Some(limit) = limit {
                    self.finish(key, End::Truncated(limit), outputs);
                } else if let Some(episode) = self.episodes[key.0 as usize].as_mut() {
                    episode.advance(Trigger::Stepped, &mut self.counts);
                    self.arm(slot, Phase::Policy);
                }
            }
            (ExternalTurn::EpisodeEnded(end), State::AwaitingPolicy | State::Stepping) => match end
            {
                End::Failed(failure) => {
                    self.release(slot, false, outputs);
                    self.fail_attempt(key, failure, Phase::Policy, outputs);
                }
                end => self.finish(key, end, outputs),
            },
            _ => self.counts.ignored += 1,
        }
    }

    /// Tells the policy that a turn is no longer wanted, if the policy has it.
    pub(crate) fn cancel_turn(&self, slot: Slot, outputs: &mut Outputs) {
        let session = &self.sessions[slot.0 as usize];
        let episode = session.episode.and_then(|key| self.episodes[key.0 as usize].as_ref());
        if episode.is_some_and(|episode| episode.state() == State::AwaitingPolicy) {
            outputs.cancelled_turns.push((slot, session.generation));
        }
    }
}

pub(crate) fn micros(duration: std::time::Duration) -> u32 {
    u32::try_from(duration.as_micros()).unwrap_or(u32::MAX)
}
