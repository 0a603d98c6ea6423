//! The jobs of a harness.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use envmill_core::JobOptions;
use envmill_protocol::JobId;

/// The jobs whose episodes a harness plays. Clones are the same ones.
#[derive(Clone, Default)]
pub(crate) struct Jobs(Arc<Mutex<HashMap<JobId, Job>>>);

/// What a harness knows of a job.
#[derive(Clone, Debug, Default)]
pub(crate) struct Job {
    /// What records call it.
    pub(crate) name: String,
    /// How long its episodes may take at most; `None`: as long as those of any job.
    pub(crate) limit: Option<Duration>,
}

impl Job {
    /// What a harness is to know of a job. What the job's deadlines say of a turn and of an episode becomes how
    /// long a program may take: what it has played by then is recorded, which the core's own deadlines would
    /// drop.
    pub(crate) fn of(options: &mut JobOptions) -> Self {
        let deadlines = &mut options.deadlines;
        let limit = deadlines.policy.take().into_iter().chain(deadlines.episode.take()).min();
        Self { name: options.name.clone(), limit }
    }
}

impl Jobs {
    /// A job begins.
    pub(crate) fn add(&self, id: JobId, job: Job) {
        self.table().insert(id, job);
    }

    /// A job has ended.
    pub(crate) fn remove(&self, id: JobId) {
        self.table().remove(&id);
    }

    /// What is known of one.
    pub(super) fn get(&self, id: JobId) -> Job {
        self.table().get(&id).cloned().unwrap_or_default()
    }

    fn table(&self) -> MutexGuard<'_, HashMap<JobId, Job>> {
        // A panic under the lock leaves nothing half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
