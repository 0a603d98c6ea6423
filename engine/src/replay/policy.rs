//! The policy.

use std::sync::Arc;

use bytes::Bytes;
use envmill_protocol::{
    Decision, Generation, PolicyError, Slot, Turn,
    record::{End, Truncation},
};

use crate::{policy::Policy, replay::Recording};

/// Takes the recorded action of every step. An episode that is not in the recording, or that goes on
/// after its recorded end, has no action and fails; where a limit of ours had cut it, it is cut there, too.
/// Answers within `submit`.
#[derive(Debug)]
pub struct Replay {
    recording: Arc<Recording>,
    ready: Vec<Decision>,
}

impl Replay {
    /// A policy that plays `recording`.
    #[must_use]
    pub const fn new(recording: Arc<Recording>) -> Self {
        Self { recording, ready: Vec::new() }
    }

    fn action(&self, turn: &Turn) -> Result<Bytes, PolicyError> {
        let wrong = |message: String| PolicyError::new(message);
        let episode = self
            .recording
            .episode(turn.episode)
            .ok_or_else(|| wrong(format!("episode {} is not in the recording", turn.episode)))?;
        episode.steps.get(turn.step as usize).map(|step| step.action.clone()).ok_or_else(|| {
            let message =
                format!("the recording of episode {} ends after {} steps", turn.episode, turn.step);
            match episode.end {
                // The environment's own limit is the environment's to show.
                End::Truncated(why) if why != Truncation::Environment => {
                    PolicyError::truncated(why, message)
                }
                _ => wrong(message),
            }
        })
    }
}

impl Policy for Replay {
    fn submit(&mut self, turns: &mut Vec<Turn>) {
        for turn in turns.drain(..) {
            let action = self.action(&turn);
            self.ready.push(turn.decided(action));
        }
    }

    fn cancel(&mut self, _turns: &[(Slot, Generation)]) {}

    fn decisions(&mut self, decisions: &mut Vec<Decision>) {
        decisions.append(&mut self.ready);
    }
}
