//! The record of a group, and what follows from it.

use envmill_protocol::{
    Trajectory,
    record::{Cancellation, End, GroupOutcome, GroupRecord, MemberAttempt, MemberRecord},
};

use crate::{Core, Outputs, Time, episode::EpisodeKey, job::Job};

impl Core {
    /// A member has its record; if it was the last one, the group gets its own.
    pub(crate) fn member_recorded(
        &mut self,
        key: EpisodeKey,
        job: usize,
        number: u64,
        member: MemberRecord,
        outputs: &mut Outputs,
    ) {
        let state = &mut self.jobs[job];
        let Some(group) = state.groups.get_mut(&number) else { return };
        group.live.retain(|live| *live != key);
        if matches!(member.end, End::Cancelled(Cancellation::Cut | Cancellation::GroupDeadline)) {
            self.counts.cut += 1;
        }
        group.members.push(member);
        if group.has_begun {
            self.unreserve(job);
        }
        let state = &mut self.jobs[job];
        let Some(group) = state.groups.get(&number) else { return };
        if group.members.len() as u64 == u64::from(state.members) {
            self.end_group(job, number, outputs);
        } else {
            self.decide(job, number, outputs);
        }
    }

    pub(crate) fn end_group(&mut self, job: usize, number: u64, outputs: &mut Outputs) {
        let now = self.now;
        let state = &mut self.jobs[job];
        let (Some(mut group), Some(options)) = (state.groups.remove(&number), state.options.group)
        else {
            return;
        };
        group.members.sort_by_key(|member| member.sample_index);
        let used = group.members.iter().filter(|member| member.used).count();
        let used = u32::try_from(used).unwrap_or(u32::MAX);
        let outcome = if group.filtered {
            GroupOutcome::Filtered
        } else if used >= options.target() {
            GroupOutcome::Complete
        } else {
            GroupOutcome::Short
        };
        let sum = |of: &dyn Fn(&MemberRecord) -> u64| group.members.iter().map(of).sum::<u64>();
        let spent_steps = sum(&|member| member.attempts.iter().map(|it| it.steps).sum());
        let spent_tokens = sum(&|member| member.attempts.iter().map(|it| it.tokens).sum());
        let steps_used = sum(&|member| if member.used { member.steps } else { 0 });
        let tokens_used = sum(&|member| if member.used { member.tokens } else { 0 });
        let record = GroupRecord {
            job_id: state.options.name.clone(),
            group_id: number,
            task_id: state.task_id(group.task),
            environment: state.options.environment_name.clone(),
            seed: state.parameters(number, group.task).seed,
            asked: options.samples,
            oversampled: options.oversample,
            complete_at: options.target(),
            used,
            outcome,
            filter: if group.filtered { options.filter.name().into() } else { String::new() },
            refill_of: state.refill_of(number),
            first_observations: group.first_observations(),
            duplicates: group.duplicates,
            steps_used,
            steps_wasted: spent_steps.saturating_sub(steps_used),
            tokens_used,
            tokens_wasted: spent_tokens.saturating_sub(tokens_used),
            started_us: group.started_at.as_micros(),
            ended_us: now.as_micros(),
            members: group.members,
        };
        match outcome {
            GroupOutcome::Complete => self.counts.groups_complete += 1,
            GroupOutcome::Short => self.counts.groups_short += 1,
            GroupOutcome::Filtered => self.counts.groups_filtered += 1,
        }
        self.task_statistics.add(&record);
        if outcome == GroupOutcome::Filtered
            && let Some((added, members)) = state.refill(number, now)
        {
            self.counts.requested += members;
            self.counts.extra += members;
            self.counts.groups_refilled += 1;
            self.look_at_taken_up(job, added);
            self.wake_at = Time::ZERO;
        }
        outputs.groups.push(record);
    }
}

impl Job {
    /// The filtered group that this one was started in place of.
    fn refill_of(&self, number: u64) -> Option<u64> {
        let asked = self.groups_total - self.refills.len() as u64;
        let index = usize::try_from(number.checked_sub(asked)?).ok()?;
        self.refills.get(index).copied()
    }

    /// Adds a group in place of a filtered one, if there may be one more: its number, and how many of
    /// its members have no record of an earlier run.
    fn refill(&mut self, number: u64, now: Time) -> Option<(u64, u64)> {
        let most = self.options.group.map_or(0, |options| options.refill_max as usize);
        if self.ending.is_some() || self.refills.len() >= most {
            return None;
        }
        self.refills.push(number);
        let added = self.groups_total;
        self.groups_total += 1;
        let members = self.take_up(added, now);
        self.unstarted += members;
        Some((added, members))
    }
}

/// A member as its group's record shows it; `tokens` are those sampled in each attempt.
pub(crate) fn member(
    trajectory: &Trajectory,
    first_observation: Option<u64>,
    tokens: Vec<u64>,
) -> MemberRecord {
    let attempts = trajectory.attempts.iter().zip(tokens);
    let attempts: Vec<MemberAttempt> = attempts
        .map(|(attempt, tokens)| MemberAttempt {
            cause: attempt.cause.clone(),
            steps: u64::from(attempt.steps),
            tokens,
        })
        .collect();
    let tokens = match attempts.last() {
        Some(last) if !trajectory.steps.is_empty() || trajectory.reset.is_some() => last.tokens,
        _ => 0,
    };
    MemberRecord {
        trajectory_id: trajectory.trajectory_id.clone(),
        sample_index: trajectory.sample_index,
        used: matches!(trajectory.end, End::Completed { .. } | End::Truncated(_)),
        end: trajectory.end.clone(),
        reward: trajectory.reward,
        steps: trajectory.steps.len() as u64,
        tokens,
        first_observation,
        attempts,
    }
}
