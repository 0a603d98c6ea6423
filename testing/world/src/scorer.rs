//! Who says what episodes were worth: one by one, or whole groups at once.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use envmill_core::{
    GroupPlan, JobOptions, Score, ScoreTicket, Scored, Scoring, ToScore, WholeGroups,
};
use envmill_protocol::{Trajectory, record::End};

use crate::{Plan, Random, ledger::Ledger, recorded::number_in_id};

/// The scorer of each job, and for those that see whole groups the members that wait for the others.
#[derive(Debug)]
pub(crate) struct Scorers {
    /// By the names of their jobs.
    gathering: BTreeMap<String, WholeGroups<ToScore>>,
    /// In which batch of its group each trajectory was, by its id.
    batches: HashMap<String, usize>,
    /// How many batches there were.
    count: usize,
}

/// Scores on their way, each after its own time.
pub(crate) type Scores = Vec<(Duration, Scored)>;

impl Scorers {
    pub(crate) fn new(plan: &Plan) -> Self {
        let gathering = plan.jobs().filter(|job| sees_groups(job));
        let gathering =
            gathering.map(|job| (job.name.clone(), WholeGroups::new(GroupPlan::of(job))));
        Self { gathering: gathering.collect(), batches: HashMap::new(), count: 0 }
    }

    /// An episode is to be scored.
    pub(crate) fn take(
        &mut self,
        episode: ToScore,
        plan: &Plan,
        random: &mut Random,
        ledger: &mut Ledger,
    ) -> Scores {
        let Trajectory { job_id, group_id, trajectory_id, .. } = &*episode.trajectory;
        let Some(groups) = self.gathering.get_mut(job_id) else {
            return single(episode.ticket, plan, random);
        };
        let (group, id) = (*group_id, trajectory_id.clone());
        let ready = groups.came(group, &id, episode);
        self.batch(&ready, plan, random, ledger)
    }

    /// An episode is recorded: those that need not wait for it any more are scored.
    pub(crate) fn recorded(
        &mut self,
        record: &Trajectory,
        plan: &Plan,
        random: &mut Random,
        ledger: &mut Ledger,
    ) -> Scores {
        let Some(groups) = self.gathering.get_mut(&record.job_id) else { return Vec::new() };
        let is_usable = matches!(record.end, End::Completed { .. } | End::Truncated(_));
        let ready = groups.recorded(record.group_id, &record.trajectory_id, is_usable);
        self.batch(&ready, plan, random, ledger)
    }

    /// Scores a batch, and sees to it that it may be one.
    fn batch(
        &mut self,
        batch: &[ToScore],
        plan: &Plan,
        random: &mut Random,
        ledger: &mut Ledger,
    ) -> Scores {
        let Some(first) = batch.first() else { return Vec::new() };
        self.count += 1;
        let group = |it: &ToScore| (it.trajectory.job_id.clone(), it.trajectory.group_id);
        if batch.iter().any(|it| group(it) != group(first)) {
            ledger.violation(|| format!("{:?} is scored together with others", group(first)));
        }
        let places = batch.iter().map(|it| number_in_id(&it.trajectory));
        if !places.is_sorted() {
            ledger.violation(|| format!("the members of {:?} are in disorder", group(first)));
        }
        for it in batch {
            let id = &it.trajectory.trajectory_id;
            if self.batches.insert(id.clone(), self.count).is_some() {
                ledger.violation(|| format!("{id} is scored again"));
            }
        }
        answer(batch, plan, random)
    }

    /// What is wrong once everything is recorded: a group that somebody still waits for, or one that is
    /// complete and whose members were scored apart although each of them had its score.
    pub(crate) fn check(&self, records: &[Trajectory], plan: &Plan) -> Vec<String> {
        let mut violations = Vec::new();
        for (job, groups) in &self.gathering {
            if groups.open() > 0 {
                violations.push(format!("{job}: {} groups wait for their members", groups.open()));
            }
        }
        for job in plan.jobs().filter(|job| sees_groups(job)) {
            let mut groups: BTreeMap<u64, Vec<&Trajectory>> = BTreeMap::new();
            for record in records.iter().filter(|it| it.job_id == job.name) {
                groups.entry(record.group_id).or_default().push(record);
            }
            for (group, members) in groups {
                violations.extend(self.check_group(group, &members, job));
            }
        }
        violations
    }

    fn check_group(&self, group: u64, members: &[&Trajectory], job: &JobOptions) -> Option<String> {
        let target = job.group.map_or(1, |options| options.complete_at.unwrap_or(options.samples));
        let is_played =
            |it: &&&Trajectory| matches!(it.end, End::Completed { .. } | End::Truncated(_));
        let used: Vec<_> = members.iter().filter(is_played).collect();
        let batches: Option<Vec<usize>> =
            used.iter().map(|it| self.batches.get(&it.trajectory_id).copied()).collect();
        let Some(batches) = batches else {
            return Some(format!("{} group {group}: a member was scored by nobody", job.name));
        };
        // A spare one takes the place of a member whose score failed, and is scored by itself.
        let is_scored_twice = members
            .iter()
            .any(|it| self.batches.contains_key(&it.trajectory_id) && !is_played(&it));
        let is_whole = used.len() >= target as usize && !is_scored_twice;
        (is_whole && batches.windows(2).any(|pair| pair[0] != pair[1]))
            .then(|| format!("{} group {group} was not scored as one: {batches:?}", job.name))
    }
}

fn sees_groups(job: &JobOptions) -> bool {
    matches!(job.scoring, Scoring::External { whole_groups: true, .. })
}

fn single(ticket: ScoreTicket, plan: &Plan, random: &mut Random) -> Scores {
    if random.chance(plan.score_mute) {
        return Vec::new();
    }
    let result = if random.chance(plan.score_fails) {
        Err("no score".to_owned())
    } else {
        Ok(Score { reward: Some(reward(plan, random)), components: Vec::new() })
    };
    vec![(random.up_to(plan.score_within), Scored { ticket, result })]
}

/// A batch has its answer as one, or fails as one: an exception, a time that was too long, fewer scores than
/// members. Within an answer a reward may be missing, and a member may be none that can be judged.
fn answer(batch: &[ToScore], plan: &Plan, random: &mut Random) -> Scores {
    let (after, failure) = if random.chance(plan.score_mute) {
        (plan.score_timeout, Some("it has not answered in time"))
    } else if random.chance(plan.score_fails) {
        (random.up_to(plan.score_within), Some("an exception"))
    } else if random.chance(plan.score_short) {
        (random.up_to(plan.score_within), Some("fewer scores than members"))
    } else {
        (random.up_to(plan.score_within), None)
    };
    let of = |it: &ToScore| {
        let result = match failure {
            Some(why) => Err(why.to_owned()),
            None if random.chance(plan.score_fails) => Err("it cannot be judged".to_owned()),
            None => {
                let is_there = !random.chance(plan.score_missing);
                let reward = is_there.then(|| reward(plan, random));
                Ok(Score { reward, components: Vec::new() })
            }
        };
        (after, Scored { ticket: it.ticket, result })
    };
    batch.iter().map(of).collect()
}

fn reward(plan: &Plan, random: &mut Random) -> f64 {
    random.below(plan.score_values.max(1)) as f64
}
