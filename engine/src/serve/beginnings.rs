//! Which attempts begin, for the service to tell if it ends before their episodes do.

use std::collections::BTreeMap;

use envmill_protocol::{Decision, Generation, JobId, Slot, Turn};

use crate::policy::Policy;

/// A policy, and who is told of each attempt at an episode before the policy is asked for its first action.
pub(super) struct Beginnings<P, T> {
    policy: P,
    tell: T,
}

impl<P: Policy, T: FnMut(JobId, Vec<u64>) + Send> Beginnings<P, T> {
    /// `tell` is told of the episodes of a job, each once for each attempt.
    pub(super) const fn new(policy: P, tell: T) -> Self {
        Self { policy, tell }
    }
}

impl<P: Policy, T: FnMut(JobId, Vec<u64>) + Send> Policy for Beginnings<P, T> {
    fn submit(&mut self, turns: &mut Vec<Turn>) {
        let mut begun: BTreeMap<JobId, Vec<u64>> = BTreeMap::new();
        for turn in turns.iter().filter(|it| it.step == 0) {
            begun.entry(turn.job).or_default().push(turn.episode.0);
        }
        for (job, episodes) in begun {
            (self.tell)(job, episodes);
        }
        self.policy.submit(turns);
    }

    fn cancel(&mut self, turns: &[(Slot, Generation)]) {
        self.policy.cancel(turns);
    }

    fn decisions(&mut self, decisions: &mut Vec<Decision>) {
        self.policy.decisions(decisions);
    }

    fn numbers(&self) -> Vec<(&'static str, f64)> {
        self.policy.numbers()
    }

    fn channels(&self) -> Vec<(String, String)> {
        self.policy.channels()
    }
}
