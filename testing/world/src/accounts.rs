//! What must hold of all records together: exactly one for each episode and for each group.

use std::{collections::HashMap, time::Duration};

use envmill_core::{Input, JobOptions};
use envmill_protocol::{
    Failure, FailureKind, JobId, Retry, Trajectory,
    record::{End, GroupRecord},
};

use crate::{
    Plan, World,
    ledger::Ledger,
    plan::{episodes_of, members_of},
    recorded::{fills_groups, retry},
};

/// The record of a group comes when all of its members have theirs, and not long after its deadline.
pub(crate) fn check_group(
    group: &GroupRecord,
    members: &[&Trajectory],
    plan: &Plan,
    slack: Duration,
    ledger: &mut Ledger,
) {
    let name = || format!("group {} of {}", group.group_id, group.job_id);
    let Some((number, job)) = plan.jobs().enumerate().find(|(_, job)| job.name == group.job_id)
    else {
        return ledger.violation(|| format!("{} belongs to no job", name()));
    };
    ledger.came_out(JobId(number as u32), "a group");
    if members.len() as u64 != members_of(job) || group.members.len() != members.len() {
        return ledger.violation(|| format!("{} comes after {} records", name(), members.len()));
    }
    let begun = members.iter().map(|member| member.timing.started_us).min().unwrap_or_default();
    let is_played = members.iter().any(|member| !member.attempts.is_empty());
    if fills_groups(job) && is_played && ledger.versions.was_held(JobId(number as u32), begun) {
        ledger.violation(|| format!("{} was begun while its job waited for a version", name()));
    }
    let took = Duration::from_micros(group.ended_us.saturating_sub(group.started_us));
    let deadline = job.group.and_then(|options| options.deadline);
    if deadline.is_some_and(|deadline| took > deadline + slack) {
        ledger.violation(|| format!("{} took {took:?}, with {deadline:?}", name()));
    }
}

/// Checks what holds at the end of a run.
pub(crate) fn check_all(world: &World) -> Vec<String> {
    let mut violations = Vec::new();
    let mut by_job: HashMap<&str, Vec<&Trajectory>> = HashMap::new();
    for record in &world.records {
        by_job.entry(&record.job_id).or_default().push(record);
    }
    let (mut refused, mut refilled, mut requested) = (0, 0, 0);
    for job in world.plan().jobs() {
        let records = by_job.remove(job.name.as_str()).unwrap_or_default();
        let is_refill = |it: &&GroupRecord| it.job_id == job.name && it.refill_of.is_some();
        let refills = world.groups.iter().filter(is_refill).count() as u64;
        requested += episodes_of(job) + refills * members_of(job);
        refilled += refills;
        violations.extend(exactly_once(job, &records, refills));
        let is_cut_short = is_cut_short(job, &records, world.plan());
        for record in records {
            let End::Failed(failure) = &record.end else { continue };
            if failure.message.contains("the retry budget of the") {
                refused += 1;
            } else if !is_cut_short && ends_too_early(record, failure, job) {
                let (id, kind) = (&record.trajectory_id, failure.kind);
                let tried = record.attempts.len();
                violations.push(format!("{id} failed with {kind} after {tried} attempts"));
            }
        }
    }
    let counts = world.core.counts();
    let mut expect = |holds: bool, what: &str| {
        if !holds {
            violations.push(format!("{what}: {counts:?}"));
        }
    };
    expect(refused <= counts.budget_refusals, "more episodes blame a budget than it refused");
    let floors = world.plan().jobs().map(|job| job.retry_budget.floor.max(job.sessions_max));
    let percent = world.plan().jobs().map(|job| job.retry_budget.percent).max().unwrap_or_default();
    // Attempts that have only begun count for the budget, too.
    let attempts = counts.attempts + counts.started;
    let budget = floors.map(u64::from).sum::<u64>() + attempts * u64::from(percent) / 100;
    // What was given up for a pause is nobody's fault, and is tried again without a budget.
    let attempts = world.records.iter().flat_map(|record| &record.attempts);
    let paused = attempts.filter(|attempt| attempt.cause == "paused").count() as u64;
    let again = counts.retries + counts.duplicates;
    expect(again <= budget + paused, "more is tried again than allowed");
    expect(counts.groups_refilled == refilled, "refills are miscounted");
    expect(counts.requested == requested, "another number was requested");
    violations
}

/// Each episode has one record.
pub(crate) fn exactly_once(
    job: &JobOptions,
    records: &[&Trajectory],
    refills: u64,
) -> Option<String> {
    let name = &job.name;
    let mut ids: Vec<&str> = records.iter().map(|it| it.trajectory_id.as_str()).collect();
    ids.sort_unstable();
    if let Some(pair) = ids.windows(2).find(|pair| pair[0] == pair[1]) {
        return Some(format!("{} is recorded twice", pair[0]));
    }
    let asked = episodes_of(job) + refills * members_of(job);
    if ids.len() as u64 != asked {
        return Some(format!("{name}: {} records of {asked} episodes", ids.len()));
    }
    None
}

/// Whether somebody ended the job, or its pool was gone: then not every attempt was used.
fn is_cut_short(job: &JobOptions, records: &[&Trajectory], plan: &Plan) -> bool {
    let ends_jobs = |wish: &Input| {
        !matches!(
            wish,
            Input::PolicyVersion { .. }
                | Input::ServerReady(_)
                | Input::Pause(_)
                | Input::Slow(_)
                | Input::Resume(_)
                | Input::Hold(_)
        )
    };
    let found_none =
        |end: &End| matches!(end, End::Failed(failure) if failure.kind == FailureKind::NoServer);
    job.deadlines.job.is_some()
        || plan.wishes.iter().any(|(_, wish)| ends_jobs(wish))
        || records.iter().any(|record| found_none(&record.end))
}

/// Whether another attempt could have helped and was allowed.
fn ends_too_early(record: &Trajectory, failure: &Failure, job: &JobOptions) -> bool {
    let is_allowed = !job.production || job.idempotent;
    is_allowed
        && retry(&failure.kind.name(), &failure.message, job) != Retry::Never
        && record.attempts.iter().filter(|it| it.cause != "paused").count()
            < job.attempts_max as usize
}
