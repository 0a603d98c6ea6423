//! What a run tells about its groups.

use envmill_core::{Counts, StatisticsByTask, TaskStatistics};
use serde::Serialize;

/// So many tasks are told of one by one.
const TASKS_SHOWN: usize = 20;

/// The groups of a run by what became of them; all 0 where none were asked for.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Groups {
    /// With as many usable members as they need.
    pub complete: u64,
    /// With fewer.
    pub short: u64,
    /// Dropped by a filter.
    pub filtered: u64,
    /// Started in place of filtered ones.
    pub refilled: u64,
    /// Their first observations differ though their seed is the same.
    pub first_observations_differ: u64,
    /// Members cut because their group had enough or its deadline had passed.
    pub cut: u64,
    /// Second attempts begun beside slow ones.
    pub duplicates: u64,
    /// Records of groups known to be kept.
    pub recorded: u64,
    /// What they have cost; `null` where there were none.
    pub tasks: Option<TaskSummary>,
}

/// What groups have cost, by task. Cutting at k of n favours short episodes, and retrying until
/// success favours those that survive; here it shows.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct TaskSummary {
    /// Tasks that were counted by themselves.
    pub count: usize,
    /// All together.
    pub all: TaskFigures,
    /// The tasks with the highest crash rates, and of equal ones those with the most cut steps: at
    /// most 20.
    pub worst: Vec<TaskFigures>,
    /// All the others together.
    pub others: TaskFigures,
}

/// The figures of a task, or of several.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct TaskFigures {
    /// Its name; where it has none, its job and group. Empty for several.
    pub task: String,
    /// Groups.
    pub groups: u64,
    /// Their members.
    pub members: u64,
    /// Members that are there to train on.
    pub kept: u64,
    /// Their mean length in steps.
    pub kept_length: Option<f64>,
    /// Members that were cut.
    pub cut: u64,
    /// The mean steps they had taken by then.
    pub cut_length: Option<f64>,
    /// Members dropped by a filter.
    pub filtered: u64,
    /// Members that failed.
    pub failed: u64,
    /// Failed attempts over attempts.
    pub crash_rate: f64,
}

impl Groups {
    pub(super) fn new(counts: &Counts, tasks: &StatisticsByTask, recorded: u64) -> Self {
        Self {
            complete: counts.groups_complete,
            short: counts.groups_short,
            filtered: counts.groups_filtered,
            refilled: counts.groups_refilled,
            first_observations_differ: counts.groups_differing,
            cut: counts.cut,
            duplicates: counts.duplicates,
            recorded,
            tasks: (tasks.all.groups > 0).then(|| TaskSummary::new(tasks)),
        }
    }

    /// How many there were.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.complete + self.short + self.filtered
    }
}

impl TaskSummary {
    fn new(tasks: &StatisticsByTask) -> Self {
        let mut sorted: Vec<(&String, &TaskStatistics)> = tasks.by_task.iter().collect();
        sorted.sort_by(|(_, a), (_, b)| {
            b.crash_rate().total_cmp(&a.crash_rate()).then(b.cut_steps.cmp(&a.cut_steps))
        });
        let (worst, rest) = sorted.split_at(sorted.len().min(TASKS_SHOWN));
        let mut others = tasks.others;
        rest.iter().for_each(|(_, task)| others.merge(task));
        Self {
            count: sorted.len(),
            all: TaskFigures::new("", &tasks.all),
            worst: worst.iter().map(|(name, task)| TaskFigures::new(name, task)).collect(),
            others: TaskFigures::new("", &others),
        }
    }
}

impl TaskFigures {
    fn new(task: &str, statistics: &TaskStatistics) -> Self {
        Self {
            task: task.into(),
            groups: statistics.groups,
            members: statistics.members,
            kept: statistics.kept,
            kept_length: statistics.kept_length(),
            cut: statistics.cut,
            cut_length: statistics.cut_length(),
            filtered: statistics.filtered,
            failed: statistics.failed,
            crash_rate: statistics.crash_rate(),
        }
    }
}
