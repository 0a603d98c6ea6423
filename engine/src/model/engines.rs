//! The inference engines of a model, as whoever plays with it holds them.

use std::path::PathBuf;

use envmill_inference::{Error, PauseMode, Pool, PoolStatus, VllmNearest};
use envmill_protocol::PolicyVersion;
use tokio::runtime::{Handle, Runtime};

/// The replicas that sample for a model, and the threads that speak with them.
pub(crate) struct Engines {
    pool: Pool,
    /// Those that have found out by themselves how they are spoken with, by their URLs.
    nearest: Vec<(String, VllmNearest)>,
    /// Ends last, and waits for nobody.
    runtime: Option<Runtime>,
}

impl Engines {
    pub(crate) const fn new(
        pool: Pool,
        nearest: Vec<(String, VllmNearest)>,
        runtime: Runtime,
    ) -> Self {
        Self { pool, nearest, runtime: Some(runtime) }
    }

    pub(crate) const fn pool(&self) -> &Pool {
        &self.pool
    }

    pub(crate) fn status(&self) -> PoolStatus {
        self.pool.status()
    }

    /// How the replicas are spoken with that have found it out by themselves, by their URLs.
    pub(crate) fn channels(&self) -> Vec<(String, String)> {
        self.nearest.iter().map(|(url, engine)| (url.clone(), engine.way().to_string())).collect()
    }

    /// The threads; `None` once they end.
    pub(crate) fn handle(&self) -> Option<&Handle> {
        self.runtime.as_ref().map(Runtime::handle)
    }

    /// Gives the replicas other weights, or tells them that they have others; see [`Pool::update`]. `failed`
    /// is told, on another thread, if none has them.
    pub(crate) fn update(
        &self,
        weights: Option<PathBuf>,
        version: PolicyVersion,
        pause: PauseMode,
        failed: Box<dyn FnOnce(Error) + Send>,
    ) {
        let update = self.pool.update(weights, version, pause);
        let Some(runtime) = self.handle() else { return };
        runtime.spawn(async move {
            match update.await {
                Ok(()) => tracing::info!(version = version.0, "the model has its version"),
                Err(error) => failed(error),
            }
        });
    }
}

impl Drop for Engines {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
