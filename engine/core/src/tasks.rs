//! The tasks of a job, and which group plays which.

use std::sync::Arc;

use bytes::Bytes;

use crate::{OptionsError, Round, random::Random, weights::Weight};

/// A round must come to this share of its tasks, weights together: else looking for one to play takes longer
/// than it may.
const TASKS_PER_PLAY_MAX: u64 = 64;
/// The most that a round may have, in plays.
const ROUND_MAX: u64 = 1 << 26;

/// One task: what an episode is reset with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Task {
    /// Names it in the record.
    pub id: String,
    /// Reset parameters of its own, which win over the job's and over its seed: the text of one JSON object.
    pub parameters: Bytes,
    /// How often it is played in a round.
    pub weight: Weight,
}

/// A set of tasks, drawn without replacement, in rounds. In a round each task is played as often as its
/// [`Weight`] says, in an order that follows from the job's seed and the number of the round alone; then
/// comes another round in another order. Without weights the first `len` groups (without groups, episodes)
/// play each task once, the next `len` once more, and so on.
///
/// A weight that is no whole number is honoured over rounds: in any `n` rounds that follow one another, a
/// task of weight `w` is played `n × w` times, rounded up or down. In which of them follows from the seed, so
/// that not all tasks of a kind come at once.
///
/// Which task is drawn at which index follows from the seed and the set, so that the same episode plays the
/// same task in a run that goes on from a broken one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tasks {
    all: Arc<[Task]>,
    /// Whether each is played once a round.
    is_even: bool,
    /// The first of the rounds, where those are drawn outside.
    given: Option<Arc<[Round]>>,
}

impl Tasks {
    /// A set of these tasks, but for those of weight 0.
    #[must_use]
    pub fn new(tasks: Vec<Task>) -> Self {
        let all: Arc<[Task]> = tasks.into_iter().filter(|it| it.weight != Weight::ZERO).collect();
        let is_even = all.iter().all(|task| task.weight == Weight::ONE);
        Self { all, is_even, given: None }
    }

    /// The same set, whose rounds are drawn outside ([`Sampler`](crate::Sampler)): these, in their order, and
    /// then those that come with [`Input::Round`](crate::Input::Round). Groups before the first are over, and
    /// groups after the last wait.
    #[must_use]
    pub fn in_rounds(self, rounds: Vec<Round>) -> Self {
        Self { given: Some(rounds.into()), ..self }
    }

    /// The first of its rounds, if they are drawn outside.
    #[must_use]
    pub fn rounds(&self) -> Option<&[Round]> {
        self.given.as_deref()
    }

    /// How many there are; 0 for a job without tasks.
    #[must_use]
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// The tasks, in the order that they were given in.
    #[must_use]
    pub fn as_slice(&self) -> &[Task] {
        &self.all
    }

    /// Whether each is played once a round.
    pub(crate) const fn is_even(&self) -> bool {
        self.is_even
    }

    /// How many groups (without groups, episodes) the first `rounds` rounds of a job with this seed have;
    /// `None` if no number is large enough.
    #[must_use]
    pub fn plays(&self, seed: u64, rounds: u64) -> Option<u64> {
        if self.is_even {
            return rounds.checked_mul(self.all.len() as u64);
        }
        let plays = |(index, task): (usize, &Task)| task.weight.plays(seed, index, rounds);
        self.all.iter().enumerate().try_fold(0_u64, |sum, it| sum.checked_add(plays(it)?))
    }

    /// Whether rounds can be drawn of it.
    ///
    /// # Errors
    ///
    /// Its weights together are too large or too small.
    pub fn check(&self) -> Result<(), OptionsError> {
        let one = u64::from(Weight::ONE.millionths());
        let least = self.all.len() as u64 * one / TASKS_PER_PLAY_MAX;
        let millionths = self.all.iter().map(|task| u64::from(task.weight.millionths())).sum();
        if !self.is_even && !(least..=ROUND_MAX * one).contains(&millionths) {
            return Err(OptionsError::Weights { tasks: self.all.len(), millionths });
        }
        Ok(())
    }
}

impl Default for Tasks {
    fn default() -> Self {
        Self::new(Vec::new())
    }
}

/// Where `position` comes to stand in the shuffle of `0..len` that `seed` and `round` name: four
/// rounds of a Feistel network over the next even number of bits, walked until it is within `len`.
/// No table is kept, so that any episode's task is known without those before it.
pub(crate) fn permuted(len: u64, seed: u64, round: u64, position: u64) -> u64 {
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
    fn what_has_no_weight_is_not_in_the_set() {
        let task = |weight| Task { weight: Weight::new(weight).unwrap(), ..Task::default() };
        let tasks = Tasks::new(vec![task(1.0), task(0.0), task(1.0)]);
        assert!(tasks.len() == 2 && tasks.is_even());
        assert_eq!(tasks.plays(7, 3), Some(6));
        assert!(Tasks::new(vec![task(0.0)]).is_empty());
    }

    #[test]
    fn weights_that_make_no_rounds_are_refused() {
        let set = |weight, count| {
            let task = Task { weight: Weight::new(weight).unwrap(), ..Task::default() };
            Tasks::new(vec![task; count]).check()
        };
        assert_eq!(set(0.02, 1000), Ok(()));
        assert_eq!(
            set(0.01, 1000),
            Err(OptionsError::Weights { tasks: 1000, millionths: 10_000_000 })
        );
        assert!(set(1000.0, 70_000).is_err());
    }
}
