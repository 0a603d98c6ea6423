//! What must hold of every record as it comes.

use std::time::Duration;

use envmill_core::{Driver, GroupFilter, Input, JobOptions, OnEnvironmentError, Scoring};
use envmill_protocol::{
    FailureKind, JobId, Observed, Phase, PolicyVersion, Retry, Trajectory,
    record::{Cancellation, End, Step, Truncation},
};

use crate::{Plan, ledger::Ledger, plan::members_of};

/// Checks one record.
pub(crate) fn check(record: &Trajectory, plan: &Plan, slack: Duration, ledger: &mut Ledger) {
    let id = &record.trajectory_id;
    let Some((number, job)) = plan.jobs().enumerate().find(|(_, job)| job.name == record.job_id)
    else {
        return ledger.violation(|| format!("{id} belongs to no job"));
    };
    ledger.came_out(JobId(number as u32), "a record");
    let told = format!("{:?} after {:?}", record.end, record.attempts);
    if let Some(before) = ledger.recorded.insert(id.clone(), told.clone()) {
        ledger.violation(|| format!("{id} is recorded again: {before}, and now {told}"));
    }
    let checks = [
        identity(record, job),
        reward(record, job, ledger),
        content(record, job, number, ledger),
        attempts(record, job),
        bytes(record, job),
        end(record, job, plan),
        times(record, job, slack),
        staleness(record, job),
        ledger.versions.check(JobId(number as u32), record, fills_groups(job)),
    ];
    for what in checks.into_iter().filter_map(Result::err) {
        ledger.violation(|| format!("{id}: {what}"));
    }
}

/// Whether the groups of a job that have begun are filled whatever keeps it from beginning others.
pub(crate) fn fills_groups(job: &JobOptions) -> bool {
    job.group.is_some() && matches!(job.scoring, Scoring::External { whole_groups: true, .. })
}

/// The episode's number within its job, as its id has it.
pub(crate) fn number_in_id(record: &Trajectory) -> Option<u64> {
    record.trajectory_id.rsplit('-').next()?.parse().ok()
}

fn identity(record: &Trajectory, job: &JobOptions) -> Result<(), String> {
    let (group, sample) = (record.group_id, record.sample_index);
    if number_in_id(record) != Some(group * members_of(job) + u64::from(sample)) {
        return Err(format!("it is not sample {sample} of group {group}"));
    }
    Ok(())
}

/// The sum of what the environment gave, or what the scorer said.
fn reward(record: &Trajectory, job: &JobOptions, ledger: &Ledger) -> Result<(), String> {
    let is_played =
        matches!(record.end, End::Completed { .. } | End::Truncated(_) | End::Filtered(_));
    let rewards = record.reset.iter().count() + record.steps.len();
    let mut expected = (rewards > 0).then_some(rewards as f64);
    if job.scoring != Scoring::Environment {
        let score = ledger.scores.get(&record.trajectory_id);
        if !is_played && record.reward.is_none() {
            return Ok(());
        }
        expected =
            *score.ok_or("it has a reward without a score, or was played and has neither")?;
    }
    if record.reward != expected {
        return Err(format!("the reward is {:?} and not {expected:?}", record.reward));
    }
    Ok(())
}

/// Each step answers its own action, in order, in one session, in one play.
fn content(
    record: &Trajectory,
    job: &JobOptions,
    number: usize,
    ledger: &Ledger,
) -> Result<(), String> {
    if job.driver == Driver::External {
        return Ok(()); // what was played is the driver's word
    }
    if job.max_steps.is_some_and(|most| record.steps.len() > most as usize) {
        return Err(format!("{} steps are too many", record.steps.len()));
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
        let turn =
            action.strip_prefix("{\"turn\":").and_then(|rest| rest.strip_suffix('}')?.parse().ok());
        let Some(asked) = turn.and_then(|turn: usize| ledger.turns.get(turn)) else {
            return Err(format!("step {index} took the action {action}, which nobody decided on"));
        };
        let is_own = asked.job.0 as usize == number
            && asked.step as usize == index
            && number_in_id(record) == Some(asked.episode.0);
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

/// It takes no more memory than it may.
fn bytes(record: &Trajectory, job: &JobOptions) -> Result<(), String> {
    let steps: u64 = record.steps.iter().map(Step::bytes).sum();
    let bytes = steps + record.reset.as_ref().map_or(0, Observed::bytes);
    match job.episode_bytes_max {
        Some(most) if bytes > most => Err(format!("{bytes} bytes, and it may take {most}")),
        _ => Ok(()),
    }
}

/// No more than allowed, each after a failure that another try can mend, and not too soon.
fn attempts(record: &Trajectory, job: &JobOptions) -> Result<(), String> {
    let attempts = record.attempts.len();
    let counted = record.attempts.iter().filter(|attempt| attempt.cause != "paused").count();
    if counted > job.attempts_max as usize {
        return Err(format!("{attempts} attempts are too many"));
    }
    if attempts > 1 && job.production && !job.idempotent {
        return Err(format!("{attempts} attempts in production"));
    }
    let refused = |cause: &str| ["factory", "capacity", "upgrade_refused_503"].contains(&cause);
    if record.attempts.iter().any(|attempt| refused(&attempt.cause)) {
        return Err("a refusal counts as an attempt".into());
    }
    if job.group.is_some_and(|group| group.duplicate_stragglers) {
        return Ok(()); // attempts may run beside each other
    }
    for pair in record.attempts.windows(2) {
        let (failed, next) = (&pair[0], &pair[1]);
        let pause = match retry(&failed.cause, &failed.message, job) {
            Retry::Never => return Err(format!("tried again after {}", failed.cause)),
            // Give or take a quarter.
            Retry::After(pause) => pause * 3 / 4,
            _ => Duration::ZERO,
        };
        let earliest = Duration::from_micros(failed.ended_us) + pause;
        if Duration::from_micros(next.started_us + 1) < earliest {
            return Err(format!("tried again too soon after {}", failed.cause));
        }
    }
    Ok(())
}

/// Whether and how another attempt follows a failure of this cause; the message tells an exception
/// at reset from one in a step.
pub(crate) fn retry(cause: &str, message: &str, job: &JobOptions) -> Retry {
    let is_reset = message.starts_with("an exception at reset");
    let phase = if is_reset { Phase::Reset } else { Phase::Step };
    match FailureKind::from_name(cause) {
        Some(FailureKind::Environment)
            if !is_reset && job.on_environment_error == OnEnvironmentError::Retry =>
        {
            Retry::NewSession
        }
        kind => kind.map_or(Retry::Never, |kind| kind.retry(phase)),
    }
}

/// It can have ended as it says.
fn end(record: &Trajectory, job: &JobOptions, plan: &Plan) -> Result<(), String> {
    let last = record.steps.last().map(|step| &step.observed).or(record.reset.as_ref());
    let has_ended = last.is_some_and(|observed| observed.ended.is_some());
    let wished = |wish: fn(&Input) -> bool| plan.wishes.iter().any(|(_, input)| wish(input));
    let is_external = job.driver == Driver::External;
    let fits = match &record.end {
        End::Completed { .. } => has_ended || is_external,
        End::Truncated(Truncation::Environment) => has_ended,
        End::Truncated(Truncation::MaxSteps) => {
            !has_ended && job.max_steps.is_some_and(|most| record.steps.len() >= most as usize)
        }
        End::Truncated(Truncation::MaxBytes) => {
            job.episode_bytes_max.is_none() && plan.options.steps_bytes_max < u64::MAX
        }
        End::Truncated(Truncation::EpisodeBytes) => {
            !has_ended && job.episode_bytes_max.is_some() && record.reset.is_some()
        }
        End::Truncated(Truncation::EpisodeDeadline) => {
            !has_ended && job.deadlines.episode.is_some() && record.reset.is_some()
        }
        End::Truncated(Truncation::EnvironmentError) => {
            !has_ended && job.on_environment_error == OnEnvironmentError::Truncate
        }
        // No policy of the world is a language model.
        End::Truncated(Truncation::MaxTokens | Truncation::Malformed) => false,
        End::Failed(failure) => {
            let is_scorer =
                matches!(failure.kind, FailureKind::Scorer | FailureKind::Deadline(Phase::Scoring));
            !has_ended || is_external || is_scorer
        }
        End::Cancelled(Cancellation::JobDeadline) => job.deadlines.job.is_some(),
        End::Cancelled(Cancellation::Drained) => wished(|it| matches!(it, Input::Drain(_))),
        End::Cancelled(Cancellation::Cancelled) => wished(|it| matches!(it, Input::Cancel(_))),
        End::Cancelled(Cancellation::Stopped) => {
            wished(|it| matches!(it, Input::Fingerprint { .. }))
        }
        End::Cancelled(Cancellation::Cut) => job.group.is_some(),
        End::Cancelled(Cancellation::GroupDeadline) => {
            job.group.is_some_and(|group| group.deadline.is_some())
        }
        End::Cancelled(Cancellation::Stale) => {
            let timing = &record.timing;
            record.reset.is_some()
                && is_behind(timing.policy_version_started, timing.policy_version_ended, job)
        }
        End::Filtered(_) => job.group.is_some_and(|group| group.filter != GroupFilter::None),
        End::Stale => false,
    };
    if fits { Ok(()) } else { Err(format!("it cannot have ended as {:?}", record.end)) }
}

/// What was played to its end did not begin too far behind the version that it ended on.
fn staleness(record: &Trajectory, job: &JobOptions) -> Result<(), String> {
    let is_played =
        matches!(record.end, End::Completed { .. } | End::Truncated(_) | End::Filtered(_));
    let (began, ended) = (record.timing.policy_version_started, record.timing.policy_version_ended);
    if is_played && is_behind(began, ended, job) {
        return Err(format!("it began on version {began} and went on to {ended}"));
    }
    Ok(())
}

/// Whether what began on one version was not to go on with the other.
fn is_behind(began: PolicyVersion, other: PolicyVersion, job: &JobOptions) -> bool {
    let largest = job.staleness_max.map_or(PolicyVersion::STEP_MAX, |most| began.step() + most);
    began.lineage() != other.lineage() || other.step() > largest
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
