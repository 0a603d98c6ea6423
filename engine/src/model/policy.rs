//! The policy.

use std::{path::PathBuf, sync::Arc};

use envmill_agent::{AgentCounts, Agents};
use envmill_inference::{Error, Load, PauseMode, Pool, PoolStatus, Standing, VllmNearest};
use envmill_protocol::{Decision, Generation, PolicyVersion, Slot, Turn};
use tokio::runtime::Runtime;

use crate::policy::Policy;

/// A language model that plays: agents, the replicas that sample for them, and the threads that both use.
pub struct LanguageModel {
    agents: Agents,
    pool: Pool,
    /// Its replicas that have found out by themselves how they are spoken with, by their URLs.
    nearest: Vec<(String, VllmNearest)>,
    /// Ends last, and waits for nobody.
    runtime: Option<Runtime>,
}

impl LanguageModel {
    pub(super) const fn new(
        agents: Agents,
        pool: Pool,
        nearest: Vec<(String, VllmNearest)>,
        runtime: Runtime,
    ) -> Self {
        Self { agents, pool, nearest, runtime: Some(runtime) }
    }

    /// What its agents have done, for any thread to read.
    #[must_use]
    pub fn counts(&self) -> Arc<AgentCounts> {
        self.agents.counts()
    }

    /// Gives its replicas other weights, or tells them that they have others; see [`Pool::update`]. `failed`
    /// is told, on another thread, if none has them.
    pub fn update(
        &self,
        weights: Option<PathBuf>,
        version: PolicyVersion,
        pause: PauseMode,
        failed: impl FnOnce(Error) + Send + 'static,
    ) {
        let update = self.pool.update(weights, version, pause);
        let Some(runtime) = &self.runtime else { return };
        runtime.spawn(async move {
            match update.await {
                Ok(()) => tracing::info!(version = version.0, "the model has its version"),
                Err(error) => failed(error),
            }
        });
    }

    /// The replicas that sample for it.
    #[must_use]
    pub const fn pool(&self) -> &Pool {
        &self.pool
    }

    /// How its replicas are.
    #[must_use]
    pub fn status(&self) -> PoolStatus {
        self.pool.status()
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
        self.nearest.iter().map(|(url, engine)| (url.clone(), engine.way().to_string())).collect()
    }
}

impl Drop for LanguageModel {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
