//! Somebody outside who plays the episodes of jobs with an external driver.

use std::time::Duration;

use bytes::Bytes;
use envmill_core::ExternalTurn;
use envmill_protocol::{
    Failure, FailureKind, Generation, Slot, Turn,
    record::{End, Step},
};

use crate::{ExternalPlan, Random, server::observed};

/// An episode in the hands of the external driver.
#[derive(Clone, Debug)]
pub(crate) struct Hand {
    pub(crate) slot: Slot,
    pub(crate) generation: Generation,
    turns_left: u64,
    is_open: bool,
    steps: u64,
}

impl Hand {
    pub(crate) fn take(turn: &Turn, plan: &ExternalPlan, random: &mut Random) -> Self {
        Self {
            slot: turn.slot,
            generation: turn.generation,
            turns_left: random.between(0, plan.turns_max),
            is_open: false,
            steps: 0,
        }
    }

    /// What it reports next, and whether and when it reports again.
    pub(crate) fn report(
        mut self,
        plan: &ExternalPlan,
        random: &mut Random,
    ) -> (ExternalTurn, Option<(Duration, Self)>) {
        let pause = random.up_to(Duration::from_millis(20));
        if self.is_open {
            let steps: Vec<Step> =
                (0..random.below(plan.steps_max + 1)).map(|_| self.step()).collect();
            self.is_open = false;
            let turn = ExternalTurn::Closed { steps, generations: Vec::new() };
            return (turn, Some((pause, self)));
        }
        if self.turns_left == 0 {
            let end = if random.chance(plan.fail) {
                End::Failed(Failure::kept(FailureKind::Driver, "the driver gave up"))
            } else {
                End::Completed { mapped: true }
            };
            return (ExternalTurn::EpisodeEnded(end), None);
        }
        self.turns_left -= 1;
        self.is_open = true;
        let again = (!random.chance(plan.hang)).then_some((pause, self));
        (ExternalTurn::Opened, again)
    }

    fn step(&mut self) -> Step {
        self.steps += 1;
        Step {
            action: Bytes::from_static(b"{}"),
            observed: observed(format!("{{\"external\":{}}}", self.steps), None),
            environment_us: 0,
            policy_us: 0,
        }
    }
}
