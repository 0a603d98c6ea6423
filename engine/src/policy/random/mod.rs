//! Valid actions, drawn at random from the environment's own schema.
//!
//! What is drawn (the rules, for those who wonder about an action):
//!
//! * Where the observation has a list `legal_actions` that is not empty, one of it is taken: an
//!   object is the action (fields it lacks are drawn), anything else becomes the value of the one
//!   required field that it fits.
//! * Required fields are always written. Optional ones are written every other time if the schema
//!   bounds their values (`enum`, `const`, booleans, numbers with both ends, nests of these), and are
//!   otherwise left to the environment's default: a random number of seconds to sleep or bytes to
//!   send is nothing that anyone wants drawn.
//! * Where a required number has no bound, integers come from 0 to 9, numbers from -1 to 1, and half
//!   bounds reach about as far. Texts have 1 to 8 lower-case letters unless a length, a pattern or a
//!   format is given.
//! * Where a number may also be written as a text, as pydantic describes a `Decimal`, it is a number,
//!   and a whole one where one is allowed: how many digits a `Decimal` takes is not in the schema.
//! * Keys of dictionaries are `0`, `1` and so on unless the schema says more: it does not say whether
//!   they are texts, numbers or truth values, and these are all three.
//! * Where an action calls a tool, one of the environment's tools is called, each as often as the
//!   others, with arguments drawn from that tool's own schema.
//! * `metadata`, which every OpenEnv action has, is never written.
//! * Recursion ends 12 levels down or after 4 KiB, whichever comes first.
//! * The draw depends on the turn's seed and step (and the legal actions) alone.

mod compile;
mod draw;
mod error;
mod leaf;
mod legal;
mod node;
mod numbers;
mod object;
mod pattern;
mod rng;
mod sampler;
mod tools;

use bytes::Bytes;
use envmill_protocol::{Decision, Generation, PolicyError, Slot, Turn};

use crate::policy::Policy;

pub use error::SchemaError;
pub use sampler::Sampler;

/// Draws an action for every turn. Answers within `submit`.
#[derive(Debug)]
pub struct Random {
    samplers: Vec<Sampler>,
    ready: Vec<Decision>,
}

impl Random {
    /// A policy for environments with these samplers, in the order of the environments' numbers.
    #[must_use]
    pub const fn new(samplers: Vec<Sampler>) -> Self {
        Self { samplers, ready: Vec::new() }
    }
}

impl Sampler {
    /// Draws an action for a turn.
    pub(crate) fn act(&mut self, turn: &Turn) -> Result<Bytes, PolicyError> {
        let observation = &turn.observed.observation;
        // Numbers list no legal actions, and need not be printed to be looked through.
        let text = if observation.numbers().is_some() { &[] } else { &observation[..] };
        self.draw(turn.seed, turn.step, text)
    }
}

impl Policy for Random {
    fn submit(&mut self, turns: &mut Vec<Turn>) {
        self.ready.reserve(turns.len());
        for turn in turns.drain(..) {
            let action = match self.samplers.get_mut(turn.environment as usize) {
                Some(sampler) => sampler.act(&turn),
                None => Err(PolicyError::new(format!(
                    "no action schema for environment {}",
                    turn.environment
                ))),
            };
            self.ready.push(turn.decided(action));
        }
    }

    fn cancel(&mut self, _turns: &[(Slot, Generation)]) {}

    fn decisions(&mut self, decisions: &mut Vec<Decision>) {
        decisions.append(&mut self.ready);
    }
}
