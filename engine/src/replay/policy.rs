//! The policy.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use envmill_protocol::{
    Decision, EpisodeIndex, Generation, PolicyError, Slot, Turn,
    record::{End, Truncation},
};

use crate::{policy::Policy, replay::Recording};

/// Takes the recorded action of every step. An episode that is not in the recording, or that goes on
/// after its recorded end, has no action and fails; where a limit of ours had cut it, it is cut there, too.
/// Answers within `submit`, after one look into the recording's file for each episode. The actions of the episodes
/// that are played are in memory.
#[derive(Debug)]
pub struct Replay {
    recording: Arc<Recording>,
    /// What each slot plays, or has played last.
    scripts: HashMap<Slot, Script>,
    ready: Vec<Decision>,
}

/// What an episode comes to.
#[derive(Debug)]
struct Script {
    episode: EpisodeIndex,
    actions: Vec<Bytes>,
    /// The limit of ours that had cut it, if one had.
    cut: Option<Truncation>,
}

impl Replay {
    /// A policy that plays `recording`.
    #[must_use]
    pub fn new(recording: Arc<Recording>) -> Self {
        Self { recording, scripts: HashMap::new(), ready: Vec::new() }
    }

    fn action(&mut self, turn: &Turn) -> Result<Bytes, PolicyError> {
        let script = match self.scripts.get(&turn.slot) {
            Some(script) if script.episode == turn.episode => script,
            _ => {
                let script = Script::read(&self.recording, turn.episode)?;
                self.scripts.entry(turn.slot).insert_entry(script).into_mut()
            }
        };
        script.actions.get(turn.step as usize).cloned().ok_or_else(|| {
            let message =
                format!("the recording of episode {} ends after {} steps", turn.episode, turn.step);
            match script.cut {
                Some(why) => PolicyError::truncated(why, message),
                None => PolicyError::new(message),
            }
        })
    }
}

impl Script {
    fn read(recording: &Recording, episode: EpisodeIndex) -> Result<Self, PolicyError> {
        let record = recording
            .episode(episode)
            .map_err(|error| PolicyError::new(error.to_string()))?
            .ok_or_else(|| {
                PolicyError::new(format!("episode {episode} is not in the recording"))
            })?;
        let cut = match record.end {
            // The environment's own limit is the environment's to show.
            End::Truncated(why) if why != Truncation::Environment => Some(why),
            _ => None,
        };
        let actions = record.steps.into_iter().map(|step| step.action).collect();
        Ok(Self { episode, actions, cut })
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
