//! The policy.

use std::{path::PathBuf, sync::Arc};

use envmill_agent::{AgentCounts, Agents};
use envmill_inference::{Error, Load, PauseMode, Pool, PoolStatus, Standing};
use envmill_protocol::{Decision, Generation, PolicyVersion, Slot, Turn};

use super::Engines;
use crate::policy::Policy;

/// A policy that samples from weights which can be changed.
pub trait ModelPolicy: Policy {
    /// Gives its inference engines other weights, or tells them that they have others; see
    /// [`Pool::update`]. `failed` is told if none has them. Does not block.
    fn update(
        &self,
        weights: Option<PathBuf>,
        version: PolicyVersion,
        pause: PauseMode,
        failed: Box<dyn FnOnce(Error) + Send>,
    );
}

/// A language model that plays: agents, the replicas that sample for them, and the threads that both use.
pub struct LanguageModel {
    agents: Agents,
    engines: Engines,
}

impl LanguageModel {
    pub(super) const fn new(agents: Agents, engines: Engines) -> Self {
        Self { agents, engines }
    }

    /// What its agents have done, for any thread to read.
    #[must_use]
    pub fn counts(&self) -> Arc<AgentCounts> {
        self.agents.counts()
    }

    /// The replicas that sample for it.
    #[must_use]
    pub const fn pool(&self) -> &Pool {
        self.engines.pool()
    }

    /// How its replicas are.
    #[must_use]
    pub fn status(&self) -> PoolStatus {
        self.engines.status()
    }
}

impl ModelPolicy for LanguageModel {
    fn update(
        &self,
        weights: Option<PathBuf>,
        version: PolicyVersion,
        pause: PauseMode,
        failed: Box<dyn FnOnce(Error) + Send>,
    ) {
        self.engines.update(weights, version, pause, failed);
    }
}

impl Policy for LanguageModel {
    fn submit(&mut self, turns: &mut Vec<Turn>) {
        self.agents.submit(turns);
    }

    fn cancel(&mut self, turns: &[(Slot, Generation)]) {
        self.agents.cancel(turns);
    }

    fn decisions(&mut self, decisions: &mut Vec<Decision>) {
        self.agents.decisions(decisions);
    }

    fn numbers(&self) -> Vec<(&'static str, f64)> {
        let counted = self.counts().now();
        let pool = self.status();
        let loads = || pool.replicas.iter().filter_map(|it| it.load);
        let sum = |of: fn(&Load) -> u64| loads().map(|it| of(&it)).sum::<u64>() as f64;
        let ready = pool.replicas.iter().filter(|it| it.standing == Standing::Ready).count();
        vec![
            ("generations", counted.generations as f64),
            ("sampled_tokens", counted.sampled_tokens as f64),
            ("prompt_tokens", counted.prompt_tokens as f64),
            ("cached_tokens", pool.cached_tokens as f64),
            ("malformed", counted.malformed as f64),
            ("reasoning_cut", counted.reasoning_cut as f64),
            ("forks", counted.forks as f64),
            ("drifts", counted.drifts as f64),
            ("under_way", counted.under_way as f64),
            ("retried", pool.retried as f64),
            ("continued", pool.continued as f64),
            ("replicas", pool.replicas.len() as f64),
            ("replicas_ready", ready as f64),
            ("inference_waiting", pool.waiting as f64 + sum(|it| it.waiting)),
            ("prefix_queries", sum(|it| it.prefix_queries)),
            ("prefix_hits", sum(|it| it.prefix_hits)),
        ]
    }

    fn channels(&self) -> Vec<(String, String)> {
        self.engines.channels()
    }
}
