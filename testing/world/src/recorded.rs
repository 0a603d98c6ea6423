//! What must hold of every record, and of all of them together.

use std::{collections::HashMap, time::Duration};

use envmill_core::{Driver, Input, JobOptions};
use envmill_protocol::{
    EpisodeIndex, Failure, FailureKind, Phase, Retry, Trajectory,
    record::{Cancellation, End, Truncation},
};

use crate::{Plan, ledger::Ledger};

/// Checks one record as it comes.
pub(crate) fn check(record: &Trajectory, plan: &Plan, slack: Duration, ledger: &mut Ledger) {
    let id = &record.trajectory_id;
    let Some((number, job)) = plan.jobs().enumerate().find(|(_, job)| job.name == record.job_id)
    else {
        return ledger.violation(|| format!("{id} belongs to no job"));
    };
    if let Err(what) = content(record, job, number, ledger) {
        ledger.violation(|| format!("{id}: {what}"));
    }
    if let Err(what) = end(record, job, plan) {
        ledger.violation(|| format!("{id}: {what}"));
    }
    if let Err(what) = times(record, job, slack) {
        ledger.violation(|| format!("{id}: {what}"));
    }
}

/// Each step answers its own action, in order, in one session, in one play.
fn content(
    record: &Trajectory,
    job: &JobOptions,
    number: usize,
    ledger: &Ledger,
) -> Result<(), String> {
    let rewards = record.reset.iter().count() + record.steps.len();
    let reward = (rewards > 0).then_some(rewards as f64);
    if record.reward != reward {
        return Err(format!("the reward is {:?} and not {reward:?}", record.reward));
    }
    if job
        .max_steps
        .is_some_and(|most| job.driver == Driver::Policy && record.steps.len() > most as usize)
    {
        return Err(format!("{} steps are too many", record.steps.len()));
    }
    if job.driver == Driver::External {
        return Ok(());
    }
    let Some(reset) = &record.reset else {
        return if record.steps.is_empty() { Ok(()) } else { Err("steps without a reset".into()) };
    };
    let seen = String::from_utf8_lossy(&reset.observation);
    let Some(play) = seen.strip_suffix(",\"step\":0}") else {
        return Err(format!("the reset shows {seen}"));
    };
    for (index, step) in record.steps.iter().enumerate() {
        let action = String::from_utf8_lossy(&step.action);
        let number_in_action =
            action.strip_prefix("{\"turn\":").and_then(|rest| rest.strip_suffix('}')?.parse().ok());
        let Some(asked) = number_in_action.and_then(|turn: usize| ledger.turns.get(turn)) else {
            return Err(format!("step {index} took the action {action}, which nobody decided on"));
        };
        let own = EpisodeIndex(asked.episode.0);
        let is_own =
            asked.job.0 as usize == number && asked.step as usize == index && belongs(record, own);
        if !is_own {
            return Err(format!("step {index} took an action for another turn: {asked:?}"));
        }
        let expected = format!("{play},\"step\":{},\"after\":{action}}}", index + 1);
        if step.observed.observation != expected.as_bytes() {
            let shown = String::from_utf8_lossy(&step.observed.observation);
            return Err(format!("step {index} shows {shown} and not {expected}"));
        }
        if step.observed.ended.is_some() && index + 1 < record.steps.len() {
            return Err(format!("it went on after step {index}, which ended it"));
        }
    }
    Ok(())
}

/// Whether the record is that of the job's episode `index`.
fn belongs(record: &Trajectory, index: EpisodeIndex) -> bool {
    record.trajectory_id.rsplit('-').next().and_then(|it| it.parse().ok()) == Some(index.0)
}

fn end(record: &Trajectory, job: &JobOptions, plan: &Plan) -> Result<(), String> {
    let attempts = record.attempts.len();
    if attempts > job.attempts_max as usize {
        return Err(format!("{attempts} attempts are too many"));
    }
    for pair in record.attempts.windows(2) {
        let (failed, next) = (&pair[0], &pair[1]);
        let pause = match retry(&failed.cause, &failed.message) {
            Retry::Never => return Err(format!("tried again after {}", failed.cause)),
            // Give or take a quarter.
            Retry::After(pause) => pause * 3 / 4,
            _ => Duration::ZERO,
        };
        if Duration::from_micros(next.started_us + 1)
            < Duration::from_micros(failed.ended_us) + pause
        {
            return Err(format!("tried again too soon after {}", failed.cause));
        }
    }
    let refused = |cause: &str| ["factory", "capacity", "upgrade_refused_503"].contains(&cause);
    if record.attempts.iter().any(|attempt| refused(&attempt.cause)) {
        return Err("a refusal counts as an attempt".into());
    }
    let last = record.steps.last().map(|step| &step.observed).or(record.reset.as_ref());
    let has_ended = last.is_some_and(|observed| observed.ended.is_some());
    let wished = |wish: fn(&Input) -> bool| plan.wishes.iter().any(|(_, input)| wish(input));
    let is_policy = job.driver == Driver::Policy;
    let fits = match &record.end {
        End::Completed { .. } => has_ended || !is_policy,
        End::Truncated(Truncation::Environment) => has_ended,
        End::Truncated(Truncation::MaxSteps) => {
            !has_ended && job.max_steps.is_some_and(|most| record.steps.len() >= most as usize)
        }
        End::Truncated(Truncation::EpisodeDeadline) => {
            !has_ended && job.deadlines.episode.is_some() && record.reset.is_some()
        }
        End::Failed(_) => !has_ended || !is_policy,
        End::Cancelled(Cancellation::JobDeadline) => job.deadlines.job.is_some(),
        End::Cancelled(Cancellation::Drained) => wished(|it| matches!(it, Input::Drain(_))),
        End::Cancelled(Cancellation::Cancelled) => wished(|it| matches!(it, Input::Cancel(_))),
        End::Cancelled(Cancellation::Stopped) => {
            wished(|it| matches!(it, Input::Fingerprint { .. }))
        }
        _ => true,
    };
    if fits { Ok(()) } else { Err(format!("it cannot have ended as {:?}", record.end)) }
}

/// Whether and how another attempt follows a failure of this cause; the message tells an exception
/// at reset from one in a step.
fn retry(cause: &str, message: &str) -> Retry {
    let phase = if message == "an exception at reset" { Phase::Reset } else { Phase::Step };
    FailureKind::from_name(cause).map_or(Retry::Never, |kind| kind.retry(phase))
}

/// Nothing outlives its deadline by more than the driver may be late and the clock may have jumped.
fn times(record: &Trajectory, job: &JobOptions, slack: Duration) -> Result<(), String> {
    let within = |what: &str, took_us: u64, limit: Option<Duration>| match limit {
        Some(limit) if Duration::from_micros(took_us) > limit + slack => {
            let took = Duration::from_micros(took_us);
            Err(format!("{what} took {took:?}, and its deadline was {limit:?}"))
        }
        _ => Ok(()),
    };
    let deadlines = &job.deadlines;
    if job.driver == Driver::Policy {
        for step in &record.steps {
            within("a step", u64::from(step.environment_us), deadlines.step)?;
            within("a decision", u64::from(step.policy_us), deadlines.policy)?;
        }
    }
    for attempt in &record.attempts {
        let took = attempt.ended_us.saturating_sub(attempt.started_us);
        within("an attempt", took, deadlines.episode)?;
    }
    if let Some(last) = record.attempts.last()
        && record.reset.is_some()
    {
        let first = deadlines.connect.zip(deadlines.first_reset).map(|(a, b)| a + b);
        let limit = first.zip(deadlines.reset).map(|(first, reset)| first.max(reset));
        within("a reset", record.timing.reset_us.saturating_sub(last.started_us), limit)?;
    }
    within("the job", record.timing.ended_us, deadlines.job)
}

/// Checks what holds of all records together: exactly one for each episode asked for, and every
/// attempt used where another could have helped.
pub(crate) fn check_all(records: &[Trajectory], plan: &Plan) -> Vec<String> {
    let mut violations = Vec::new();
    let mut by_job: HashMap<&str, Vec<&Trajectory>> = HashMap::new();
    for record in records {
        by_job.entry(&record.job_id).or_default().push(record);
    }
    for job in plan.jobs() {
        let records = by_job.remove(job.name.as_str()).unwrap_or_default();
        let mut ids: Vec<&str> = records.iter().map(|it| it.trajectory_id.as_str()).collect();
        ids.sort_unstable();
        let doubled = ids.windows(2).find(|pair| pair[0] == pair[1]);
        if let Some(pair) = doubled {
            violations.push(format!("{} is recorded twice", pair[0]));
        }
        if ids.len() as u64 != job.episodes {
            let (name, asked) = (&job.name, job.episodes);
            violations.push(format!("{name}: {} records of {asked} episodes", ids.len()));
        }
        let is_cut = job.deadlines.job.is_some()
            || plan.wishes.iter().any(|(_, wish)| {
                !matches!(wish, Input::PolicyVersion(_) | Input::ServerReady(_))
            })
            || records.iter().any(|it| matches!(&it.end, End::Failed(failure) if failure.kind == FailureKind::NoServer));
        for record in records.iter().filter(|_| !is_cut) {
            if let End::Failed(Failure { kind, message, .. }) = &record.end
                && retry(&kind.name(), message) != Retry::Never
                && record.attempts.len() < job.attempts_max as usize
            {
                let (id, tried) = (&record.trajectory_id, record.attempts.len());
                violations.push(format!("{id} failed with {kind} after {tried} attempts"));
            }
        }
    }
    violations
}
