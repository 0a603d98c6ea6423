//! The rounds that a job's tasks are drawn in.

use std::{collections::VecDeque, sync::Arc};

use envmill_protocol::JobId;

use crate::{Core, Note, Outputs, Tasks, Time, job::Job, tasks::permuted};

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
    /// The rounds that were drawn outside and are still of use, for a set whose rounds are.
    given: Option<VecDeque<Round>>,
    /// Whether another one was asked for and has not come.
    is_asked: bool,
}

impl Draws {
    pub(crate) fn new(tasks: &Tasks) -> Self {
        let given = tasks.rounds().map(|rounds| rounds.iter().cloned().collect());
        Self { given, ..Self::default() }
    }

    /// The place of the task that a group plays; `None` if there are no tasks, or if its round has not been
    /// drawn.
    pub(crate) fn task(&mut self, tasks: &Tasks, seed: u64, group: u64) -> Option<u32> {
        if let Some(given) = &self.given {
            let at = given.partition_point(|round| round.end() <= group);
            return given.get(at)?.task(seed, group);
        }
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

    /// The first group whose task is not known yet.
    pub(crate) fn end(&self) -> u64 {
        match &self.given {
            Some(given) => given.back().map_or(0, Round::end),
            None => u64::MAX,
        }
    }

    /// Takes the next round. One that is not the next changes nothing. What is over with `begun` groups is
    /// forgotten.
    fn add(&mut self, round: Round, begun: u64) -> bool {
        let end = self.end();
        let Some(given) = self.given.as_mut().filter(|_| round.start == end) else { return false };
        self.is_asked = false;
        given.push_back(round);
        while given.len() > 1 && given[0].end() <= begun {
            given.pop_front();
        }
        true
    }
}

impl Job {
    /// Whether the task of the next group to begin is known.
    pub(crate) fn knows_next_task(&self) -> bool {
        self.next_group < self.draws.end()
    }

    /// Whether it will run out of known tasks before those come that it asks for now, as far as one can
    /// tell: while all its sessions play other groups.
    fn wants_round(&self) -> bool {
        let in_flight = u64::from(self.options.sessions_max.div_ceil(self.members));
        let end = self.draws.end();
        end < self.groups_total
            && end <= self.next_group + in_flight
            && self.ending.is_none()
            && !self.is_held
            && !self.draws.is_asked
    }
}

impl Core {
    /// A round was drawn outside.
    pub(crate) fn on_round(&mut self, job: JobId, round: Round) {
        let Some(job) = self.jobs.get_mut(job.0 as usize).filter(|job| !job.is_ended) else {
            return;
        };
        let begun = job.next_group;
        if job.draws.add(round, begun) {
            self.wake_at = Time::ZERO;
        }
    }

    /// Asks for another round, if the job needs one.
    pub(crate) fn look_at_rounds(&mut self, job: usize, outputs: &mut Outputs) {
        if self.jobs[job].wants_round() {
            self.jobs[job].draws.is_asked = true;
            let job = JobId(u32::try_from(job).unwrap_or(u32::MAX));
            outputs.notes.push(Note::RoundWanted(job));
        }
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
