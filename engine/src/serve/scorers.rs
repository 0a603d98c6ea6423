//! The scorers of jobs.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use envmill_core::{GroupPlan, Input, Scored, ToScore};
use envmill_protocol::{JobId, Trajectory};

use crate::{
    driver::Control,
    scorer::{JobScorer, Pool, Scorer},
};

/// Hands the episodes of each job to the scorer that the job names. Jobs come and go while it runs. A
/// clone is the same one: one belongs to the driver, another adds and removes jobs, on the driver's thread
/// too.
#[derive(Clone)]
pub(super) struct JobScorers(Arc<Mutex<Table>>);

struct Table {
    pools: BTreeMap<String, Pool>,
    control: Control,
    /// By what records call them.
    jobs: HashMap<String, (JobId, JobScorer)>,
}

impl JobScorers {
    /// For a driver that listens to `control`.
    pub(super) fn new(pools: BTreeMap<String, Pool>, control: Control) -> Self {
        Self(Arc::new(Mutex::new(Table { pools, control, jobs: HashMap::new() })))
    }

    /// A job that is scored begins: its episodes go to this scorer.
    pub(super) fn add(&self, id: JobId, name: String, scorer: &str, plan: &GroupPlan) {
        let table = &mut *self.table();
        let Some(pool) = table.pools.get(scorer).cloned() else { return };
        let scorer = JobScorer::new(vec![pool], plan, table.control.clone());
        table.jobs.insert(name, (id, scorer));
    }

    /// A job has ended.
    pub(super) fn remove(&self, id: JobId) {
        self.table().jobs.retain(|_, (its, _)| *its != id);
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // A panic under the lock leaves nothing half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Scorer for JobScorers {
    fn submit(&mut self, episodes: &mut Vec<ToScore>) {
        let Table { control, jobs, .. } = &mut *self.table();
        let mut by_job: BTreeMap<String, Vec<ToScore>> = BTreeMap::new();
        for episode in episodes.drain(..) {
            match by_job.get_mut(&episode.trajectory.job_id) {
                Some(its) => its.push(episode),
                None => {
                    by_job.insert(episode.trajectory.job_id.clone(), vec![episode]);
                }
            }
        }
        for (job, mut its) in by_job {
            if let Some((_, scorer)) = jobs.get_mut(&job) {
                scorer.submit(&mut its);
                continue;
            }
            for episode in its {
                let result = Err("the job has no scorer".to_owned());
                control.send(Input::Scored(Scored { ticket: episode.ticket, result }));
            }
        }
    }

    fn recorded(&mut self, records: &[Trajectory]) {
        let jobs = &mut self.table().jobs;
        for record in records {
            if let Some((_, scorer)) = jobs.get_mut(&record.job_id) {
                scorer.recorded(std::slice::from_ref(record));
            }
        }
    }
}
