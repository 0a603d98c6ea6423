//! The tasks of a job, and which group plays which.

use std::sync::Arc;

use bytes::Bytes;

use crate::random::Random;

/// One task: what an episode is reset with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Task {
    /// Names it in the record.
    pub id: String,
    /// Reset parameters of its own, which win over the job's: the text of one JSON object.
    pub parameters: Bytes,
}

/// A set of tasks, drawn without replacement: the first `len` groups (without groups, episodes) play
/// each task once, in an order that follows from the job's seed and the number of the round alone;
/// the next `len` play each once more in another order, and so on. The same episode therefore plays
/// the same task in a run that goes on from a broken one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tasks(Arc<[Task]>);

impl Tasks {
    /// A set of these tasks.
    #[must_use]
    pub fn new(tasks: Vec<Task>) -> Self {
        Self(tasks.into())
    }

    /// How many there are; 0 for a job without tasks.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The tasks, in the order that they were given in.
    #[must_use]
    pub fn as_slice(&self) -> &[Task] {
        &self.0
    }

    /// The task drawn at `index` under a job's seed; `None` if there are none.
    #[must_use]
    pub fn drawn(&self, seed: u64, index: u64) -> Option<&Task> {
        let len = self.0.len() as u64;
        let round = index.checked_div(len)?;
        self.0.get(permuted(len, seed, round, index % len) as usize)
    }
}

/// Where `position` comes to stand in the shuffle of `0..len` that `seed` and `round` name: four
/// rounds of a Feistel network over the next even number of bits, walked until it is within `len`.
/// No table is kept, so that any episode's task is known without those before it.
fn permuted(len: u64, seed: u64, round: u64, position: u64) -> u64 {
    if len <= 1 {
        return 0;
    }
    let half_bits = (64 - (len - 1).leading_zeros()).div_ceil(2);
    let mask = (1_u64 << half_bits) - 1;
    let mut random = Random::new(seed ^ round.wrapping_mul(0xD1B5_4A32_D192_ED03));
    let keys = [random.draw(), random.draw(), random.draw(), random.draw()];
    let mut value = position;
    loop {
        let (mut left, mut right) = (value >> half_bits, value & mask);
        for key in keys {
            let mixed = Random::new(key ^ right).draw() & mask;
            (left, right) = (right, left ^ mixed);
        }
        value = left << half_bits | right;
        // A permutation of all values returns to where it started, so this ends; on average it
        // takes fewer than four turns.
        if value < len {
            return value;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_round_plays_each_task_once_in_an_order_of_its_own() {
        for len in [1, 2, 3, 7, 64, 65, 1000] {
            let order = |seed, round| -> Vec<u64> {
                (0..len).map(|position| permuted(len, seed, round, position)).collect()
            };
            let mut sorted = order(7, 3);
            sorted.sort_unstable();
            assert_eq!(sorted, (0..len).collect::<Vec<_>>());
            assert_eq!(order(7, 3), order(7, 3));
            if len > 7 {
                assert_ne!(order(7, 3), order(7, 4));
                assert_ne!(order(7, 3), order(8, 3));
                assert_ne!(order(7, 3), (0..len).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn no_tasks_are_drawn_from_an_empty_set() {
        assert_eq!(Tasks::default().drawn(1, 1), None);
    }
}
