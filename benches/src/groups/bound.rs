//! What a scheduler that knows every duration beforehand could not beat.

use crate::groups::{Episode, Workload};

/// Times that no scheduler beats on the workload's slots.
#[derive(Clone, Debug)]
pub struct Bound {
    /// Until the first batch of complete groups, in seconds.
    pub first_batch: f64,
    /// Until all but the last two batches, for each: seconds.
    pub per_batch: f64,
    /// For each number of groups: seconds.
    pub held: Vec<f64>,
}

/// The clairvoyant bound on holding any `m` of the groups with `used` members each, of `members`:
/// the slots must have done the work of the `m` cheapest groups, each with its shortest members, and
/// the longest of the members needed must have been played from end to end.
#[must_use]
pub fn bound(workload: &Workload, used: usize, members: usize) -> Bound {
    let mut work = Vec::new();
    let mut longest = Vec::new();
    for group in &workload.groups {
        let mut seconds: Vec<f64> = group[..members].iter().map(Episode::seconds).collect();
        seconds.sort_unstable_by(f64::total_cmp);
        work.push(seconds[..used].iter().sum::<f64>());
        longest.push(seconds[used - 1]);
    }
    work.sort_unstable_by(f64::total_cmp);
    longest.sort_unstable_by(f64::total_cmp);
    let mut sum = 0.0;
    let held: Vec<f64> = work
        .iter()
        .zip(&longest)
        .map(|(work, longest)| {
            sum += work;
            longest.max(sum / workload.slots as f64)
        })
        .collect();
    let measured = workload.batches - 2;
    Bound {
        first_batch: held[workload.batch - 1],
        per_batch: held[measured * workload.batch - 1] / measured as f64,
        held,
    }
}
