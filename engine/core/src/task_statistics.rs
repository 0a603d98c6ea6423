//! What groups have cost, by task.
//!
//! Cutting at k of n favours short episodes, and retrying until success favours those that survive:
//! neither shows in the trajectories that are left. So the lengths of kept and of cut episodes and
//! the share of failed attempts are counted for each task.

use std::collections::BTreeMap;

use envmill_protocol::record::{Cancellation, End, GroupRecord};

/// So many tasks are counted by themselves.
const TASKS_MAX: usize = 1024;

/// What came of a task's groups.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TaskStatistics {
    /// Its groups.
    pub groups: u64,
    /// Their members.
    pub members: u64,
    /// Members that are there to train on.
    pub kept: u64,
    /// The steps of these.
    pub kept_steps: u64,
    /// Members cut because their group had enough or its deadline had passed.
    pub cut: u64,
    /// The steps that these had taken by then.
    pub cut_steps: u64,
    /// Members dropped by a filter.
    pub filtered: u64,
    /// Members that failed.
    pub failed: u64,
    /// Attempts at its members.
    pub attempts: u64,
    /// Attempts that failed, followed by another or not.
    pub attempts_failed: u64,
}

impl TaskStatistics {
    /// The share of attempts that failed, from 0 to 1.
    #[must_use]
    pub fn crash_rate(&self) -> f64 {
        self.attempts_failed as f64 / (self.attempts.max(1)) as f64
    }

    /// Mean steps of the kept members; `None` if there are none.
    #[must_use]
    pub fn kept_length(&self) -> Option<f64> {
        (self.kept > 0).then(|| self.kept_steps as f64 / self.kept as f64)
    }

    /// Mean steps that the cut members had taken; `None` if there are none.
    #[must_use]
    pub fn cut_length(&self) -> Option<f64> {
        (self.cut > 0).then(|| self.cut_steps as f64 / self.cut as f64)
    }

    /// Adds the figures of another task.
    pub fn merge(&mut self, other: &Self) {
        self.groups += other.groups;
        self.members += other.members;
        self.kept += other.kept;
        self.kept_steps += other.kept_steps;
        self.cut += other.cut;
        self.cut_steps += other.cut_steps;
        self.filtered += other.filtered;
        self.failed += other.failed;
        self.attempts += other.attempts;
        self.attempts_failed += other.attempts_failed;
    }

    fn add(&mut self, group: &GroupRecord) {
        self.groups += 1;
        for member in &group.members {
            self.members += 1;
            self.attempts += member.attempts.len() as u64;
            let failed = |cause: &str| !matches!(cause, "" | "duplicate" | "interrupted");
            self.attempts_failed +=
                member.attempts.iter().filter(|attempt| failed(&attempt.cause)).count() as u64;
            match &member.end {
                End::Completed { .. } | End::Truncated(_) => {
                    self.kept += 1;
                    self.kept_steps += member.steps;
                }
                End::Cancelled(Cancellation::Cut | Cancellation::GroupDeadline) => {
                    self.cut += 1;
                    self.cut_steps += member.steps;
                }
                End::Filtered(_) => self.filtered += 1,
                End::Failed(_) => self.failed += 1,
                End::Cancelled(_) | End::Stale => {}
            }
        }
    }
}

/// Statistics of the first 1,024 tasks, one by one, and of the others together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StatisticsByTask {
    /// By the task's name; where it has none, by its job and group.
    pub by_task: BTreeMap<String, TaskStatistics>,
    /// Those for which there was no place.
    pub others: TaskStatistics,
    /// All together.
    pub all: TaskStatistics,
}

impl StatisticsByTask {
    pub(crate) fn add(&mut self, group: &GroupRecord) {
        let name = if group.task_id.is_empty() {
            format!("{} group {}", group.job_id, group.group_id)
        } else {
            group.task_id.clone()
        };
        self.all.add(group);
        if self.by_task.len() < TASKS_MAX || self.by_task.contains_key(&name) {
            self.by_task.entry(name).or_default().add(group);
        } else {
            self.others.add(group);
        }
    }
}
