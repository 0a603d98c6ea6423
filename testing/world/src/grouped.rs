//! What must hold of the records of groups.

use std::collections::HashMap;

use envmill_core::JobOptions;
use envmill_protocol::{
    Trajectory,
    record::{Cancellation, End, GroupOutcome, GroupRecord},
};

use crate::Plan;

/// Checks that every group has exactly one record, and that it says what its members' records say.
pub(crate) fn check_all(
    groups: &[GroupRecord],
    records: &[Trajectory],
    plan: &Plan,
    is_resumed: bool,
) -> Vec<String> {
    let mut violations = Vec::new();
    for job in plan.jobs() {
        let mut by_group: HashMap<u64, Vec<&Trajectory>> = HashMap::new();
        for record in records.iter().filter(|it| it.job_id == job.name) {
            by_group.entry(record.group_id).or_default().push(record);
        }
        let mut refills = 0;
        for group in groups.iter().filter(|it| it.job_id == job.name) {
            let members = by_group.remove(&group.group_id).unwrap_or_default();
            refills += u64::from(group.refill_of.is_some());
            if let Err(what) = check(group, members, job, is_resumed) {
                violations.push(format!("{} group {}: {what}", job.name, group.group_id));
            }
        }
        let Some(options) = &job.group else { continue };
        if !by_group.is_empty() {
            violations.push(format!("{}: {} groups have no record", job.name, by_group.len()));
        }
        let count = groups.iter().filter(|it| it.job_id == job.name).count() as u64;
        let asked = job.episodes / u64::from(options.samples);
        if count != asked + refills || refills > u64::from(options.refill_max) {
            violations.push(format!("{}: {count} groups, {asked} asked, {refills}", job.name));
        }
    }
    violations
}

fn check(
    group: &GroupRecord,
    mut members: Vec<&Trajectory>,
    job: &JobOptions,
    is_resumed: bool,
) -> Result<(), String> {
    let expect = |holds: bool, what: &str| if holds { Ok(()) } else { Err(what.to_owned()) };
    let Some(options) = &job.group else { return Err("it was not asked for".into()) };
    members.sort_by_key(|member| member.sample_index);
    let size = (options.samples + options.oversample) as usize;
    expect(group.members.len() == size && members.len() == size, "not all of its members")?;
    let (mut used, mut steps, mut steps_used) = (0, 0, 0);
    for (index, (member, record)) in group.members.iter().zip(&members).enumerate() {
        expect(member.sample_index as usize == index, "a sample index is off")?;
        expect(member.trajectory_id == record.trajectory_id, "a member's id is off")?;
        expect(member.end == record.end && member.reward == record.reward, "an end is off")?;
        let own = member.attempts.iter().map(|it| (it.steps, it.cause.as_str()));
        let its = record.attempts.iter().map(|it| (u64::from(it.steps), it.cause.as_str()));
        expect(own.eq(its), "an attempt is off")?;
        let is_used = matches!(record.end, End::Completed { .. } | End::Truncated(_));
        expect(member.used == is_used, "a member is used that may not be, or the other way")?;
        expect(record.seed == members[0].seed, "members have different seeds")?;
        expect(record.reset_parameters == members[0].reset_parameters, "other parameters")?;
        used += u32::from(is_used);
        steps += member.attempts.iter().map(|it| it.steps).sum::<u64>();
        steps_used += if is_used { member.steps } else { 0 };
    }
    let target = options.complete_at.unwrap_or(options.samples);
    expect(group.used == used && group.complete_at == target, "the used are miscounted")?;
    expect(used <= target || target as usize == size, "more are used than asked for")?;
    expect(group.steps_used == steps_used, "used steps are miscounted")?;
    expect(group.steps_wasted == steps - steps_used, "wasted steps are miscounted")?;
    let ended = |why: &dyn Fn(&End) -> bool| members.iter().any(|member| why(&member.end));
    let was_cut = ended(&|end| *end == End::Cancelled(Cancellation::Cut));
    let was_filtered = ended(&|end| matches!(end, End::Filtered(_)));
    let filtered = members.iter().filter(|it| matches!(it.end, End::Filtered(_))).count();
    // A kill may have taken a member for which others had been cut.
    let may_lack = is_resumed || used == target || filtered as u32 == target;
    expect(!was_cut || may_lack, "cut below k")?;
    let outcome = match () {
        () if was_filtered => GroupOutcome::Filtered,
        () if used >= target => GroupOutcome::Complete,
        () => GroupOutcome::Short,
    };
    expect(group.outcome == outcome, "the outcome is off")?;
    expect(!was_filtered || used == 0, "a filtered group has used members")
}
