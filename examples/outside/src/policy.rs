//! The policy: halves what is left.

use std::{collections::HashMap, ops::Range};

use anyhow::Context as _;
use bytes::Bytes;
use envmill::policy::Policy;
use envmill_protocol::{Decision, Generation, PolicyError, Slot, Turn};
use serde::Deserialize;

/// Remembers for each session where its number can still be.
#[derive(Default)]
pub struct Bisecting {
    left: HashMap<Slot, Range<u32>>,
    ready: Vec<Decision>,
}

#[derive(Deserialize)]
struct Observation<'a> {
    hint: &'a str,
    numbers: u32,
}

impl Bisecting {
    fn guess(&mut self, turn: &Turn) -> anyhow::Result<Bytes> {
        let Observation { hint, numbers } = serde_json::from_slice(&turn.observed.observation)?;
        let left = self.left.entry(turn.slot).or_default();
        let guessed = left.start.midpoint(left.end);
        *left = match hint {
            // An episode begins.
            "guess" => 0..numbers,
            "higher" => guessed + 1..left.end,
            "lower" => left.start..guessed,
            _ => None.with_context(|| format!("{hint:?} is no hint"))?,
        };
        Ok(format!(r#"{{"guess":{}}}"#, left.start.midpoint(left.end)).into())
    }
}

impl Policy for Bisecting {
    fn submit(&mut self, turns: &mut Vec<Turn>) {
        for turn in turns.drain(..) {
            let guess = self.guess(&turn);
            let guess = guess.map_err(|error| PolicyError::new(error.to_string()));
            self.ready.push(turn.decided(guess));
        }
    }

    fn cancel(&mut self, _: &[(Slot, Generation)]) {}

    fn decisions(&mut self, decisions: &mut Vec<Decision>) {
        decisions.append(&mut self.ready);
    }
}
