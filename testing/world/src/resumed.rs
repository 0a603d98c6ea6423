//! Worlds that are killed at some moment, and whose jobs another engine goes on with.

use std::{
    collections::HashSet,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use envmill_core::{EpisodeSet, JobOptions, RecordedGroups, episode_of, recorded_member};
use envmill_protocol::{
    Trajectory,
    record::{GroupOutcome, GroupRecord},
};

use crate::{
    Failed, Plan, Random, World, accounts, grouped,
    plan::members_of,
    seeds::{STEPS_MAX, failed_by_panic, plan_of, whole_groups_of},
};

/// Plays the world of a seed, keeps only what a kill at some moment would have left on the disk, has
/// another world play the rest, and checks everything together.
///
/// # Errors
///
/// What was wrong; a panic of the core is among it.
pub fn play_resumed(seed: u64) -> Result<(), Failed> {
    go_on_after_a_kill(seed, plan_of)
}

/// As [`play_resumed`], with scorers that see whole groups.
///
/// # Errors
///
/// As [`play_resumed`].
pub fn play_resumed_whole_groups(seed: u64) -> Result<(), Failed> {
    go_on_after_a_kill(seed, whole_groups_of)
}

fn go_on_after_a_kill(seed: u64, plan_of: fn(u64) -> Plan) -> Result<(), Failed> {
    let played = catch_unwind(AssertUnwindSafe(|| {
        let mut first = World::new(plan_of(seed));
        let mut violations: Vec<String> = first.run_within(STEPS_MAX).err().into_iter().collect();
        let random = &mut Random::new(seed ^ 0x4B11_1ED0);
        let (records, groups) = left_behind(first.records, first.groups, random);
        let mut plan = plan_of(seed);
        plan.seed ^= 0x5EED;
        plan.wishes.clear();
        let mut second = World::resumed(plan, records, &groups);
        violations.extend(second.run_within(STEPS_MAX).err());
        violations.extend(second.violations_with(groups));
        violations
    }));
    match played {
        Ok(violations) if violations.is_empty() => Ok(()),
        Ok(violations) => Err(Failed { seed, violations }),
        Err(panic) => Err(failed_by_panic(seed, panic.as_ref())),
    }
}

/// The first so many records, and of the groups whose members are all among them the first so many.
fn left_behind(
    mut records: Vec<Trajectory>,
    mut groups: Vec<GroupRecord>,
    random: &mut Random,
) -> (Vec<Trajectory>, Vec<GroupRecord>) {
    records.truncate(random.below(records.len() as u64 + 1) as usize);
    let kept: HashSet<&str> = records.iter().map(|record| record.trajectory_id.as_str()).collect();
    let is_whole = |group: &&GroupRecord| {
        group.members.iter().all(|member| kept.contains(member.trajectory_id.as_str()))
    };
    let whole = groups.iter().take_while(is_whole).count();
    groups.truncate(whole.saturating_sub(random.below(3) as usize));
    (records, groups)
}

impl World {
    /// A world whose jobs have these records from an earlier one.
    fn resumed(mut plan: Plan, records: Vec<Trajectory>, groups: &[GroupRecord]) -> Self {
        go_on(&mut plan.job, &records, groups);
        for job in &mut plan.more_jobs {
            go_on(job, &records, groups);
        }
        let mut world = Self::new(plan);
        world.remember(records);
        world
    }

    /// What is wrong with both runs together.
    fn violations_with(&self, mut groups: Vec<GroupRecord>) -> Vec<String> {
        let mut violations = self.violations();
        let records: Vec<Trajectory> =
            self.earlier().iter().chain(&self.records).cloned().collect();
        groups.extend(self.groups.iter().cloned());
        violations.extend(grouped::check_all(&groups, &records, self.plan(), true));
        violations.extend(self.scorer_violations());
        for job in self.plan().jobs() {
            let own: Vec<&Trajectory> = records.iter().filter(|it| it.job_id == job.name).collect();
            let is_refill = |it: &&GroupRecord| it.job_id == job.name && it.refill_of.is_some();
            let refills = groups.iter().filter(is_refill).count() as u64;
            violations.extend(accounts::exactly_once(job, &own, refills));
        }
        let counts = self.core.counts();
        if counts.requested != self.records.len() as u64 || counts.sessions > 0 {
            violations
                .push(format!("{} records in the second run: {counts:?}", self.records.len()));
        }
        violations
    }
}

fn go_on(job: &mut JobOptions, records: &[Trajectory], groups: &[GroupRecord]) {
    let own = || records.iter().filter(|record| record.job_id == job.name);
    let recorded: EpisodeSet =
        own().filter_map(|record| episode_of(&job.name, &record.trajectory_id)).collect();
    let ended: Vec<&GroupRecord> = groups.iter().filter(|group| group.job_id == job.name).collect();
    let mut left = RecordedGroups::default();
    if job.group.is_some() {
        let filtered = ended.iter().filter(|group| group.outcome == GroupOutcome::Filtered);
        left.filtered = filtered.map(|group| group.group_id).collect();
        for record in own() {
            if ended.iter().all(|group| group.group_id != record.group_id) {
                left.open.entry(record.group_id).or_default().push(recorded_member(record));
            }
        }
        debug_assert!(left.open.values().all(|open| open.len() as u64 <= members_of(job)));
    }
    (job.recorded, job.recorded_groups) = (Arc::new(recorded), Arc::new(left));
}
