//! How often a job's tasks are visited, by what came of their groups.
//!
//! Groups whose members all had the same reward teach a trainer nothing that compares them. A task whose
//! groups are all like that is visited less, and never not at all.
//!
//! A [`Sampler`] draws the rounds of a job from outside of the core, and whoever owns it writes each down
//! before the job is told of it ([`Input::Round`](crate::Input::Round)): what a group plays is then known
//! for ever, while what the next rounds have depends on what was recorded by then.

use std::{collections::VecDeque, sync::Arc};

use envmill_protocol::record::{End, GroupRecord};

use crate::{Round, Tasks, Weight};

/// When tasks are visited less.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Revisit {
    /// After so many groups without variance in a row a task is visited half as often, and half as often
    /// again after as many more. At least 1.
    pub after: u32,
    /// But no less than once where it would have been visited so many times. At least 1.
    pub every_max: u32,
}

/// What came of a task's groups.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TaskRecord {
    /// Groups that are over.
    pub groups: u64,
    /// Of them, those whose members' rewards differ.
    pub varied: u64,
    /// Those whose members all have the same one.
    pub unvaried: u64,
    /// The last of these, since one that varied.
    pub unvaried_in_a_row: u32,
    /// Members that were played to an end that counts and have a reward.
    pub rewards: u64,
    /// The sum of their rewards.
    pub reward_sum: f64,
}

impl TaskRecord {
    /// The mean reward of its members; `None` if none has one.
    #[must_use]
    pub fn reward_mean(&self) -> Option<f64> {
        (self.rewards > 0).then(|| self.reward_sum / self.rewards as f64)
    }

    fn add(&mut self, group: &GroupRecord) {
        self.groups += 1;
        for reward in rewards(group).flatten() {
            self.rewards += 1;
            self.reward_sum += reward;
        }
        match has_variance(group) {
            Some(true) => {
                self.varied += 1;
                self.unvaried_in_a_row = 0;
            }
            Some(false) => {
                self.unvaried += 1;
                self.unvaried_in_a_row = self.unvaried_in_a_row.saturating_add(1);
            }
            None => {}
        }
    }
}

/// The rewards of the members that were played to an end that counts.
fn rewards(group: &GroupRecord) -> impl Iterator<Item = Option<f64>> {
    let counts =
        |end: &End| matches!(end, End::Completed { .. } | End::Truncated(_) | End::Filtered(_));
    group.members.iter().filter(move |member| counts(&member.end)).map(|member| member.reward)
}

/// Whether a group's rewards differ. `None` where nobody can say: with fewer than two members, or with one
/// whose reward is missing, unless those that are there differ.
#[must_use]
pub fn has_variance(group: &GroupRecord) -> Option<bool> {
    // Equal to the bit: a trainer's advantage is zero then, and only then.
    let mut there = rewards(group).flatten().map(f64::to_bits);
    let first = there.next()?;
    if there.any(|reward| reward != first) {
        return Some(true);
    }
    let (all, missing) = rewards(group)
        .fold((0, 0), |(all, missing), it| (all + 1, missing + u32::from(it.is_none())));
    (all >= 2 && missing == 0).then_some(false)
}

/// Draws the rounds of one job.
#[derive(Clone, Debug)]
pub struct Sampler {
    tasks: Tasks,
    seed: u64,
    revisit: Option<Revisit>,
    state: SamplerState,
}

/// What a [`Sampler`] needs to go on after its process has ended.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SamplerState {
    /// What came of each task's groups.
    pub records: Vec<TaskRecord>,
    /// How often each task was drawn.
    pub visits: Vec<u64>,
    /// What each task has in hand for the next round, in millionths of a visit.
    pub in_hand: Vec<u32>,
    /// The number of the next round.
    pub next_round: u64,
    /// The rounds that have groups which are not over, and the last.
    pub rounds: VecDeque<Round>,
}

impl Sampler {
    /// Nothing is drawn.
    #[must_use]
    pub fn new(tasks: Tasks, seed: u64, revisit: Option<Revisit>) -> Self {
        Self::restored(tasks, seed, revisit, SamplerState::default())
    }

    /// Goes on where an earlier one with the same tasks and seed was. What the state lacks is as at the
    /// beginning.
    #[must_use]
    pub fn restored(
        tasks: Tasks,
        seed: u64,
        revisit: Option<Revisit>,
        mut state: SamplerState,
    ) -> Self {
        let len = tasks.len();
        state.records.resize(len, TaskRecord::default());
        state.visits.resize(len, 0);
        state.in_hand.truncate(len);
        let begun = state.in_hand.len();
        state.in_hand.extend((begun..len).map(|task| Weight::head_start(seed, task)));
        Self { tasks, seed, revisit, state }
    }

    /// Where it stands.
    #[must_use]
    pub const fn state(&self) -> &SamplerState {
        &self.state
    }

    /// Its tasks.
    #[must_use]
    pub const fn tasks(&self) -> &Tasks {
        &self.tasks
    }

    /// The group after the last of the last round.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.state.rounds.back().map_or(0, Round::end)
    }

    /// Draws the next round that has something to play. A set without tasks has none.
    pub fn draw(&mut self) -> Option<Round> {
        if self.tasks.is_empty() {
            return None;
        }
        let start = self.end();
        let mut plays = Vec::new();
        while plays.is_empty() {
            for task in 0..self.tasks.len() {
                let in_hand = self.state.in_hand[task] + self.share(task);
                let times = in_hand / Weight::ONE.millionths();
                self.state.in_hand[task] = in_hand % Weight::ONE.millionths();
                self.state.visits[task] += u64::from(times);
                plays.extend((0..times).map(|_| task as u32));
            }
            self.state.next_round += 1;
        }
        let number = self.state.next_round - 1;
        let round = Round { number, start, tasks: Arc::from(plays) };
        self.state.rounds.push_back(round.clone());
        Some(round)
    }

    /// What a task is given for a round, in millionths of a visit.
    fn share(&self, task: usize) -> u32 {
        let weight = self.tasks.as_slice()[task].weight.millionths();
        weight.div_ceil(self.one_in(task))
    }

    /// A task is visited once where it would have been so many times, by its weight alone.
    #[must_use]
    pub fn one_in(&self, task: usize) -> u32 {
        let Some(revisit) = self.revisit else { return 1 };
        let in_a_row = self.state.records.get(task).map_or(0, |it| it.unvaried_in_a_row);
        let halved = in_a_row / revisit.after.max(1);
        1_u32.checked_shl(halved).unwrap_or(u32::MAX).min(revisit.every_max.max(1))
    }

    /// The place in the set of the task that a group plays, if it is in a round that is kept.
    #[must_use]
    pub fn task(&self, group: u64) -> Option<u32> {
        let at = self.state.rounds.partition_point(|round| round.end() <= group);
        self.state.rounds.get(at)?.task(self.seed, group)
    }

    /// A group is over: the place of its task.
    pub fn add(&mut self, group: &GroupRecord) -> Option<u32> {
        let task = self.task(group.group_id)?;
        self.state.records.get_mut(task as usize)?.add(group);
        Some(task)
    }

    /// Forgets the rounds whose groups are all before this one, but for the last.
    pub fn forget_before(&mut self, group: u64) {
        while self.state.rounds.len() > 1 && self.state.rounds[0].end() <= group {
            self.state.rounds.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use envmill_protocol::record::{
        Cancellation, FirstObservations, GroupOutcome, MemberRecord, Truncation,
    };
    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::{Task, rounds::Draws};

    fn tasks(weights: &[u32]) -> Tasks {
        let task = |&millionths: &u32| Task {
            weight: Weight::from_millionths(millionths).unwrap(),
            ..Task::default()
        };
        Tasks::new(weights.iter().map(task).collect())
    }

    fn member(end: End, reward: Option<f64>) -> MemberRecord {
        MemberRecord {
            trajectory_id: String::new(),
            sample_index: 0,
            used: true,
            end,
            reward,
            steps: 1,
            tokens: 0,
            first_observation: None,
            attempts: Vec::new(),
        }
    }

    fn group(number: u64, members: Vec<MemberRecord>) -> GroupRecord {
        GroupRecord {
            job_id: String::new(),
            group_id: number,
            task_id: String::new(),
            environment: String::new(),
            seed: None,
            asked: 2,
            oversampled: 0,
            complete_at: 2,
            used: 2,
            outcome: GroupOutcome::Complete,
            filter: String::new(),
            refill_of: None,
            first_observations: FirstObservations::Unknown,
            duplicates: 0,
            steps_used: 0,
            steps_wasted: 0,
            tokens_used: 0,
            tokens_wasted: 0,
            started_us: 0,
            ended_us: 0,
            members,
        }
    }

    fn rewarded(number: u64, rewards: &[Option<f64>]) -> GroupRecord {
        let member = |reward: &Option<f64>| member(End::Completed { mapped: true }, *reward);
        group(number, rewards.iter().map(member).collect())
    }

    const FLAT: [Option<f64>; 2] = [Some(1.0), Some(1.0)];
    const VARIED: [Option<f64>; 2] = [Some(1.0), Some(0.0)];

    #[test]
    fn variance_is_known_where_rewards_are_there() {
        for (rewards, expected) in [
            (&FLAT[..], Some(false)),
            (&VARIED, Some(true)),
            (&[Some(1.0), None], None),
            (&[None, None], None),
            (&[Some(1.0), None, Some(2.0)], Some(true)),
            (&[Some(1.0)], None),
            (&[], None),
        ] {
            assert_eq!(has_variance(&rewarded(0, rewards)), expected, "{rewards:?}");
        }
        // What was cut or failed has no say, and what a filter dropped has.
        let cut = member(End::Cancelled(Cancellation::Cut), Some(7.0));
        let ends = [End::Completed { mapped: true }, End::Filtered("zero_variance".into())];
        let mut members: Vec<_> = ends.map(|end| member(end, Some(1.0))).into();
        members.push(cut);
        assert_eq!(has_variance(&group(0, members.clone())), Some(false));
        members.push(member(End::Truncated(Truncation::MaxSteps), Some(2.0)));
        assert_eq!(has_variance(&group(0, members)), Some(true));
    }

    /// Draws a round, and lets the groups of each task end as this says.
    fn play(sampler: &mut Sampler, rewards: impl Fn(u32) -> [Option<f64>; 2]) -> Vec<u32> {
        let round = sampler.draw().unwrap();
        for number in round.start..round.end() {
            let task = sampler.task(number).unwrap();
            assert_eq!(sampler.add(&rewarded(number, &rewards(task))), Some(task));
        }
        round.tasks.to_vec()
    }

    #[test]
    fn tasks_whose_groups_never_vary_are_visited_less_and_come_back_when_they_do() {
        let revisit = Revisit { after: 2, every_max: 8 };
        let mut sampler = Sampler::new(tasks(&[1_000_000; 40]), 3, Some(revisit));
        let dull = |task: u32| if task < 20 { FLAT } else { VARIED };
        for _ in 0..2 {
            assert_eq!(play(&mut sampler, dull).len(), 40);
        }
        assert_eq!((sampler.one_in(0), sampler.one_in(30)), (2, 1));
        for _ in 0..60 {
            play(&mut sampler, dull);
        }
        assert_eq!(sampler.one_in(0), 8);
        let mut visits = [0; 40];
        for _ in 0..8 {
            let round = play(&mut sampler, dull);
            assert!(round.len() < 32, "they do not come together: {round:?}");
            round.iter().for_each(|&task| visits[task as usize] += 1);
        }
        assert!(visits[..20].iter().all(|&it| it == 1), "{visits:?}");
        assert!(visits[20..].iter().all(|&it| it == 8), "{visits:?}");
        for _ in 0..8 {
            play(&mut sampler, |_| VARIED);
        }
        assert_eq!(play(&mut sampler, |_| VARIED).len(), 40);
        let records = &sampler.state().records;
        assert_eq!((records[0].unvaried_in_a_row, records[0].reward_mean().is_some()), (0, true));
    }

    #[test]
    fn missing_rewards_do_not_count_as_no_variance() {
        let revisit = Revisit { after: 1, every_max: 8 };
        let mut sampler = Sampler::new(tasks(&[1_000_000; 4]), 3, Some(revisit));
        for _ in 0..10 {
            assert_eq!(play(&mut sampler, |_| [Some(1.0), None]).len(), 4);
        }
        assert_eq!(sampler.state().records[0].groups, 10);
        assert_eq!(sampler.state().records[0].unvaried, 0);
    }

    proptest! {
        #[test]
        fn without_a_word_of_rewards_the_rounds_are_those_of_the_set(
            weights in vec(prop_oneof![Just(1_000_000), 20_000_u32..3_000_000], 1..20),
            seed: u64,
        ) {
            let set = tasks(&weights);
            let mut sampler = Sampler::new(set.clone(), seed, None);
            let mut draws = Draws::default();
            for _ in 0..5 {
                let round = sampler.draw().unwrap();
                for group in round.start..round.end() {
                    prop_assert_eq!(round.task(seed, group), draws.task(&set, seed, group));
                }
            }
        }

        #[test]
        fn no_task_is_left_out_for_longer_than_was_said(
            weights in vec(20_000_u32..3_000_000, 1..12),
            flat in vec(any::<bool>(), 12),
            (after, every_max) in (1_u32..4, 1_u32..17),
            seed: u64,
        ) {
            let mut sampler =
                Sampler::new(tasks(&weights), seed, Some(Revisit { after, every_max }));
            let mut last = vec![0; weights.len()];
            for _ in 0..60 {
                play(&mut sampler, |task| if flat[task as usize] { FLAT } else { VARIED });
                let (now, state) = (sampler.state().next_round, sampler.state());
                for &task in &*state.rounds.back().unwrap().tasks {
                    last[task as usize] = now;
                }
                for (task, &weight) in weights.iter().enumerate() {
                    let rounds = (f64::from(every_max) * 1e6 / f64::from(weight)).ceil() as u64;
                    prop_assert!(now - last[task] <= rounds, "{task} in {rounds} rounds");
                }
            }
        }

        #[test]
        fn what_goes_on_draws_what_would_have_been_drawn(
            weights in vec(20_000_u32..3_000_000, 1..12),
            outcomes in vec(0_usize..3, 1..200),
            stop in 0_u64..40,
            seed: u64,
        ) {
            let revisit = Some(Revisit { after: 1, every_max: 4 });
            let set = tasks(&weights);
            let mut sampler = Sampler::new(set.clone(), seed, revisit);
            let mut other: Option<Sampler> = None;
            for (number, &outcome) in (0_u64..).zip(&outcomes) {
                if number == stop {
                    let state = sampler.state().clone();
                    other = Some(Sampler::restored(set.clone(), seed, revisit, state));
                }
                while number >= sampler.end() {
                    let round = sampler.draw();
                    if let Some(other) = &mut other {
                        prop_assert_eq!(other.draw(), round);
                    }
                }
                let record = rewarded(number, &[FLAT, VARIED, [None, Some(1.0)]][outcome]);
                let task = sampler.add(&record);
                prop_assert!(task.is_some());
                if let Some(other) = &mut other {
                    prop_assert_eq!(other.add(&record), task);
                    other.forget_before(number);
                }
            }
        }
    }
}
