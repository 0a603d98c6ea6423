//! The scorers of jobs.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use envmill_core::{GroupPlan, Input, Scored, ToScore, WholeGroups};
use envmill_protocol::{JobId, Trajectory, record::End};

use crate::{
    driver::Control,
    scorer::{Item, Pool, Scorer},
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
    jobs: HashMap<String, Job>,
}

struct Job {
    id: JobId,
    pool: Pool,
    /// Where whole groups are wanted: members that wait for the others.
    groups: Option<WholeGroups<Item>>,
    /// The episodes with the scorer, by trajectory: what is set when they are not any more.
    waiting: HashMap<String, Arc<AtomicBool>>,
}

impl JobScorers {
    /// For a driver that listens to `control`.
    pub(super) fn new(pools: BTreeMap<String, Pool>, control: Control) -> Self {
        Self(Arc::new(Mutex::new(Table { pools, control, jobs: HashMap::new() })))
    }

    /// A job that is scored begins: its episodes go to this scorer.
    pub(super) fn add(&self, id: JobId, name: String, scorer: &str, plan: GroupPlan) {
        let table = &mut *self.table();
        let Some(pool) = table.pools.get(scorer).cloned() else { return };
        let groups = pool.options().group.then(|| WholeGroups::new(plan));
        table.jobs.insert(name, Job { id, pool, groups, waiting: HashMap::new() });
    }

    /// A job has ended.
    pub(super) fn remove(&self, id: JobId) {
        self.table().jobs.retain(|_, job| job.id != id);
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // A panic under the lock leaves nothing half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Scorer for JobScorers {
    fn submit(&mut self, episodes: &mut Vec<ToScore>) {
        let Table { control, jobs, .. } = &mut *self.table();
        let mut singles: BTreeMap<JobId, (Pool, Vec<Item>)> = BTreeMap::new();
        for episode in episodes.drain(..) {
            let Some(job) = jobs.get_mut(&episode.trajectory.job_id) else {
                let result = Err("the job has no scorer".to_owned());
                control.send(Input::Scored(Scored { ticket: episode.ticket, result }));
                continue;
            };
            let is_withdrawn = Arc::new(AtomicBool::new(false));
            let trajectory = episode.trajectory.trajectory_id.clone();
            let group = episode.trajectory.group_id;
            job.waiting.insert(trajectory.clone(), Arc::clone(&is_withdrawn));
            let item = Item { episode, is_withdrawn, control: control.clone() };
            match &mut job.groups {
                Some(groups) => {
                    job.pool.submit_together(groups.came(group, &trajectory, item));
                }
                None => {
                    let its = singles.entry(job.id);
                    its.or_insert_with(|| (job.pool.clone(), Vec::new())).1.push(item);
                }
            }
        }
        for (pool, items) in singles.into_values() {
            pool.submit(items);
        }
    }

    fn recorded(&mut self, records: &[Trajectory]) {
        let jobs = &mut self.table().jobs;
        for record in records {
            let Some(job) = jobs.get_mut(&record.job_id) else { continue };
            if let Some(is_withdrawn) = job.waiting.remove(&record.trajectory_id) {
                is_withdrawn.store(true, Ordering::Relaxed);
            }
            if let Some(groups) = &mut job.groups {
                let is_usable = matches!(record.end, End::Completed { .. } | End::Truncated(_));
                let ready = groups.recorded(record.group_id, &record.trajectory_id, is_usable);
                job.pool.submit_together(ready);
            }
        }
    }
}
