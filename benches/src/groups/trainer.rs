//! The trainer: takes complete groups a batch at a time, and publishes a policy version after each.

use crate::groups::Workload;

/// The time in which a slot was busy with one attempt at an episode.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    /// Seconds from the start.
    pub from: f64,
    /// Seconds from the start.
    pub until: f64,
    /// Steps taken.
    pub steps: usize,
    /// Whether it was cut, and nobody uses it.
    pub is_cut: bool,
}

/// A group that is complete.
#[derive(Clone, Copy, Debug)]
pub struct Group {
    /// When its first member began: seconds from the start.
    pub began: f64,
    /// When a trainer could have it: seconds from the start.
    pub held: f64,
}

/// What a policy made of a workload.
#[derive(Clone, Debug, Default)]
pub struct Played {
    /// Every use of a slot.
    pub spans: Vec<Span>,
    /// Every complete group, in the order of delivery.
    pub groups: Vec<Group>,
}

/// The figures of a policy on a workload.
#[derive(Clone, Debug)]
pub struct Delivered {
    /// Until the first batch of groups was held, in seconds.
    pub first_batch: f64,
    /// Until all but the last two batches were held, for each: seconds.
    pub per_batch: f64,
    /// Of the slot-seconds until then, the share in which the slot was idle.
    pub idle: f64,
    /// Of the slot-seconds until then, the share spent on work that was cut.
    pub cut: f64,
    /// Of the steps until then, the share that was cut.
    pub steps_cut: f64,
    /// Versions between the one a group was begun with and the one it was trained on: the mean.
    pub staleness_mean: f64,
    /// The same: the worst.
    pub staleness_max: u64,
    /// When each group was held, in order: seconds.
    pub held: Vec<f64>,
}

/// Batches at the end that are not measured: there is nothing behind them to keep slots busy.
const BATCHES_UNMEASURED: usize = 2;

/// Brings what was played to the trainer.
#[must_use]
pub fn deliver(played: &Played, workload: &Workload) -> Delivered {
    let batch = workload.batch;
    let measured = workload.batches - BATCHES_UNMEASURED;
    let held: Vec<f64> = played.groups.iter().map(|group| group.held).collect();
    let until = held[measured * batch - 1];
    let slot_seconds = until * workload.slots as f64;
    let within = |span: &&Span| span.from < until;
    let busy = |span: &Span| span.until.min(until) - span.from;
    let spans = || played.spans.iter().filter(within);
    let (mut steps, mut steps_cut) = (0, 0);
    for span in spans() {
        steps += span.steps;
        steps_cut += if span.is_cut { span.steps } else { 0 };
    }
    let staleness = staleness(&played.groups[..measured * batch], workload);
    Delivered {
        first_batch: held[batch - 1],
        per_batch: until / measured as f64,
        idle: 1.0 - spans().map(busy).sum::<f64>() / slot_seconds,
        cut: spans().filter(|span| span.is_cut).map(busy).sum::<f64>() / slot_seconds,
        steps_cut: steps_cut as f64 / steps.max(1) as f64,
        staleness_mean: staleness.iter().sum::<u64>() as f64 / staleness.len() as f64,
        staleness_max: staleness.iter().copied().max().unwrap_or_default(),
        held,
    }
}

/// How many versions were published between the beginning of a group and the beginning of the
/// training on it.
fn staleness(groups: &[Group], workload: &Workload) -> Vec<u64> {
    let mut published: Vec<f64> = Vec::new();
    let mut staleness = Vec::new();
    let mut is_free_at = 0.0_f64;
    for batch in groups.chunks(workload.batch) {
        let complete = batch.iter().map(|group| group.held).fold(0.0, f64::max);
        let begins = is_free_at.max(complete);
        let version_at = |time: f64| published.iter().filter(|&&at| at <= time).count() as u64;
        let current = version_at(begins);
        staleness.extend(batch.iter().map(|group| current - version_at(group.began)));
        is_free_at = begins + workload.training;
        published.push(is_free_at);
    }
    staleness
}
