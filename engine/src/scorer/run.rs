//! The scorers of a run.

use std::{
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use envmill_core::{GroupPlan, ToScore};
use envmill_protocol::Trajectory;

use super::{JobScorer, Scorer, ScorerError, ScorerOptions, ScorerPools};
use crate::{config::RunOptions, driver::Control, report::Scores};

/// The scorers of a run, started, and what they have said on average. Dropping it ends their processes.
pub(crate) struct RunScorers {
    names: Vec<String>,
    pools: ScorerPools,
    /// Shared with what the driver has.
    tally: Arc<Mutex<Scores>>,
}

impl RunScorers {
    /// Starts the scorers that the options name; `None` if it is the environment that says what episodes were
    /// worth. What their processes print goes into `logs`; `is_interrupted` is asked while they start.
    pub(crate) fn start(
        options: &RunOptions,
        logs: &Path,
        is_interrupted: &dyn Fn() -> bool,
    ) -> Result<Option<Self>, ScorerError> {
        if options.scorers.is_empty() {
            return Ok(None);
        }
        let (program, path) = (options.python.as_deref(), &options.python_path);
        let scorers = options.scorers.iter().cloned();
        let scorers: Vec<ScorerOptions> =
            scorers.map(|scorer| scorer.with_python(program, path)).collect();
        let pools = ScorerPools::start(&scorers, logs, is_interrupted)?;
        let names = scorers.into_iter().map(|scorer| scorer.name).collect();
        Ok(Some(Self { names, pools, tally: Arc::default() }))
    }

    /// What the driver that listens to `control` hands episodes to, whose groups are made up as `plan` says.
    pub(crate) fn scorer(&self, plan: &GroupPlan, control: &Control) -> Box<dyn Scorer> {
        let mut pools = self.pools.pools();
        // In the order of the options, which is that of components.
        let pools = self.names.iter().filter_map(|name| pools.remove(name)).collect();
        let job = JobScorer::new(pools, plan, control.clone());
        Box::new(Counting { job, tally: Arc::clone(&self.tally) })
    }

    /// What they have said until now.
    pub(crate) fn scores(&self) -> Scores {
        locked(&self.tally).clone()
    }
}

/// Counts what was said.
struct Counting {
    job: JobScorer,
    tally: Arc<Mutex<Scores>>,
}

impl Scorer for Counting {
    fn submit(&mut self, episodes: &mut Vec<ToScore>) {
        self.job.submit(episodes);
    }

    fn recorded(&mut self, records: &[Trajectory]) {
        let mut tally = locked(&self.tally);
        records.iter().for_each(|record| tally.add(record));
        drop(tally);
        self.job.recorded(records);
    }
}

fn locked(tally: &Mutex<Scores>) -> MutexGuard<'_, Scores> {
    // A panic under the lock leaves nothing half done that matters.
    tally.lock().unwrap_or_else(PoisonError::into_inner)
}
