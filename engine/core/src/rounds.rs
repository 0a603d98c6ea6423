//! The rounds that a job's tasks are drawn in.

use std::sync::Arc;

use crate::{Tasks, tasks::permuted};

/// One time through a set of tasks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Round {
    /// Its number, from 0.
    pub number: u64,
    /// The group (without groups, the episode) that it begins with.
    pub start: u64,
    /// The tasks that are played in it, by their places in the set and in that order; one that is played
    /// several times is there as often.
    pub tasks: Arc<[u32]>,
}

impl Round {
    /// The group after its last.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.start + self.tasks.len() as u64
    }

    /// The place in the set of the task that a group plays under a job's seed; `None` if the group is not in
    /// this round.
    #[must_use]
    pub fn task(&self, seed: u64, group: u64) -> Option<u32> {
        let position = group.checked_sub(self.start).filter(|_| group < self.end())?;
        let len = self.tasks.len() as u64;
        self.tasks.get(permuted(len, seed, self.number, position) as usize).copied()
    }

    /// Round `number` of a set with weights.
    fn drawn(tasks: &Tasks, seed: u64, number: u64, start: u64) -> Self {
        let mut plays = Vec::new();
        for (index, task) in tasks.as_slice().iter().enumerate() {
            let upto = |rounds| task.weight.plays(seed, index, rounds).unwrap_or(u64::MAX);
            let times = upto(number + 1) - upto(number);
            plays.extend((0..times).map(|_| index as u32));
        }
        Self { number, start, tasks: plays.into() }
    }
}

/// Draws tasks in the order of their groups. Going on is cheap, whatever the weights; going back is not.
#[derive(Debug, Default)]
pub(crate) struct Draws {
    /// The round that was drawn from last, of a set with weights.
    last: Option<Round>,
}

impl Draws {
    /// The place of the task that a group plays; `None` if there are no tasks.
    pub(crate) fn task(&mut self, tasks: &Tasks, seed: u64, group: u64) -> Option<u32> {
        let len = tasks.len() as u64;
        if tasks.is_even() {
            let round = group.checked_div(len)?;
            return Some(permuted(len, seed, round, group % len) as u32);
        }
        let mut round = match self.last.take() {
            Some(round) if round.start <= group => round,
            _ => located(tasks, seed, group),
        };
        while round.end() <= group {
            round = Round::drawn(tasks, seed, round.number + 1, round.end());
        }
        self.last.insert(round).task(seed, group)
    }
}

/// The round of a set with weights that a group is in.
fn located(tasks: &Tasks, seed: u64, group: u64) -> Round {
    let start = |round| tasks.plays(seed, round).unwrap_or(u64::MAX);
    // The last round that begins at or before it. A round may have nothing, and it is not in that one.
    let (mut low, mut high) = (0, 1);
    while start(high) <= group {
        (low, high) = (high, high * 2);
    }
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if start(middle) <= group { low = middle } else { high = middle }
    }
    Round::drawn(tasks, seed, low, start(low))
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::{Task, Weight};

    fn weighted(weights: &[u32]) -> Tasks {
        let task = |&millionths: &u32| Task {
            weight: Weight::from_millionths(millionths).unwrap(),
            ..Task::default()
        };
        Tasks::new(weights.iter().map(task).collect())
    }

    proptest! {
        #[test]
        fn each_round_has_each_task_as_often_as_its_weight_says(
            weights in vec(50_000_u32..3_000_000, 1..20),
            seed: u64,
        ) {
            let tasks = weighted(&weights);
            let mut draws = Draws::default();
            for round in 0..6 {
                let [start, end] = [round, round + 1].map(|it| tasks.plays(seed, it).unwrap());
                let mut times = vec![0_u64; tasks.len()];
                for group in start..end {
                    times[draws.task(&tasks, seed, group).unwrap() as usize] += 1;
                }
                for (task, &times) in tasks.as_slice().iter().zip(&times) {
                    let weight = task.weight.as_f64();
                    prop_assert!((times as f64 - weight).abs() < 1.0, "{times} for {weight}");
                }
            }
        }

        #[test]
        fn what_is_drawn_follows_from_the_index_alone(
            weights in vec(prop_oneof![Just(1_000_000), 20_000_u32..3_000_000], 1..20),
            seed: u64,
            some in vec(0_u64..300, 1..20),
        ) {
            let tasks = weighted(&weights);
            let mut draws = Draws::default();
            let all: Vec<_> = (0..300).map(|group| draws.task(&tasks, seed, group)).collect();
            prop_assert!(all.iter().all(Option::is_some));
            for &group in &some {
                prop_assert_eq!(draws.task(&tasks, seed, group), all[group as usize]);
                prop_assert_eq!(Draws::default().task(&tasks, seed, group), all[group as usize]);
            }
        }
    }

    #[test]
    fn far_away_is_found_at_once() {
        let tasks = weighted(&[1_500_000, 100_000, 3_000_000]);
        let far = 1 << 40;
        assert!(Draws::default().task(&tasks, 3, far).is_some());
        assert_eq!(tasks.plays(3, 10), Some(46));
        assert_eq!(tasks.plays(3, u64::MAX), None);
    }

    #[test]
    fn tasks_of_one_small_weight_do_not_come_in_the_same_round() {
        let tasks = weighted(&[250_000; 400]);
        for round in 0..8 {
            let plays = tasks.plays(1, round + 1).unwrap() - tasks.plays(1, round).unwrap();
            assert!((60..140).contains(&plays), "{plays} in round {round}");
        }
    }

    #[test]
    fn no_tasks_are_drawn_from_an_empty_set() {
        assert_eq!(Draws::default().task(&Tasks::default(), 1, 1), None);
    }
}
