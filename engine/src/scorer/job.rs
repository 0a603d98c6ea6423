//! The scorers of one job.

use std::{collections::HashMap, sync::Arc};

use envmill_core::{GroupPlan, ToScore, WholeGroups};
use envmill_protocol::{Trajectory, record::End};

use super::{Item, Pool, Scorer, verdict::Verdict};
use crate::driver::Control;

/// Hands the episodes of one job to each of its scorers, and their verdict to the driver.
pub(crate) struct JobScorer {
    scorers: Arc<[Pool]>,
    /// Of each scorer that wants whole groups, the members that wait for the others.
    groups: Vec<Option<WholeGroups<Item>>>,
    /// The episodes with the scorers, by trajectory.
    waiting: HashMap<String, Arc<Verdict>>,
    control: Control,
}

impl JobScorer {
    /// For a job whose groups are made up as `plan` says, of a driver that listens to `control`.
    pub(crate) fn new(scorers: Vec<Pool>, plan: &GroupPlan, control: Control) -> Self {
        let groups = |pool: &Pool| pool.options().group.then(|| WholeGroups::new(plan.clone()));
        Self {
            groups: scorers.iter().map(groups).collect(),
            scorers: scorers.into(),
            waiting: HashMap::new(),
            control,
        }
    }
}

impl Scorer for JobScorer {
    fn submit(&mut self, episodes: &mut Vec<ToScore>) {
        let mut singles: Vec<Vec<Item>> = self.scorers.iter().map(|_| Vec::new()).collect();
        for episode in episodes.drain(..) {
            let trajectory = episode.trajectory.trajectory_id.clone();
            let group = episode.trajectory.group_id;
            let scorers = Arc::clone(&self.scorers);
            let verdict = Arc::new(Verdict::new(episode, scorers, self.control.clone()));
            self.waiting.insert(trajectory.clone(), Arc::clone(&verdict));
            for (number, (pool, groups)) in self.scorers.iter().zip(&mut self.groups).enumerate() {
                let item = Verdict::item(Arc::clone(&verdict), number);
                match groups {
                    Some(groups) => pool.submit_together(groups.came(group, &trajectory, item)),
                    None => singles[number].push(item),
                }
            }
        }
        for (pool, items) in self.scorers.iter().zip(singles) {
            pool.submit(items);
        }
    }

    fn recorded(&mut self, records: &[Trajectory]) {
        for record in records {
            if let Some(verdict) = self.waiting.remove(&record.trajectory_id) {
                verdict.withdraw();
            }
            let is_usable = matches!(record.end, End::Completed { .. } | End::Truncated(_));
            for (pool, groups) in self.scorers.iter().zip(&mut self.groups) {
                let Some(groups) = groups else { continue };
                let ready = groups.recorded(record.group_id, &record.trajectory_id, is_usable);
                pool.submit_together(ready);
            }
        }
    }
}
