//! Records as messages, and what a policy says as a decision.

use bytes::Bytes;
use envmill_protocol as ours;
use envmill_protocol::record;

use crate as wire;

/// A policy version as a message.
#[must_use]
pub const fn version(version: ours::PolicyVersion) -> wire::Version {
    wire::Version { lineage: version.lineage() as u32, step: version.step() }
}

/// The version that a message names; an absent one is the first. `None` if it is too large.
#[must_use]
pub fn policy_version(version: Option<&wire::Version>) -> Option<ours::PolicyVersion> {
    let Some(version) = version else { return Some(ours::PolicyVersion(0)) };
    ours::PolicyVersion::new(u16::try_from(version.lineage).ok()?, version.step)
}

/// The record of an episode as a message.
#[must_use]
pub fn trajectory(trajectory: ours::Trajectory) -> wire::Trajectory {
    // Taken apart, so that a new field cannot be forgotten here.
    let ours::Trajectory {
        trajectory_id,
        job_id,
        group_id,
        sample_index,
        task_id,
        environment,
        branch_id,
        parent_branch,
        agent_id,
        seed,
        reset_parameters,
        provenance,
        attempts,
        reset,
        steps,
        reward,
        reward_components,
        end: how,
        tokens,
        generations,
        turns,
        messages,
        sampling,
        blobs,
        metrics,
        timing,
        content_hash,
    } = trajectory;
    let record::Provenance { server, session_id, episode_in_session, environment_fingerprint } =
        provenance;
    let record::Timing {
        run_started_unix_us,
        started_us,
        reset_us,
        ended_us,
        policy_version_started,
        policy_version_ended,
    } = timing;
    wire::Trajectory {
        trajectory_id,
        job_id,
        group_id,
        sample_index,
        task_id,
        environment,
        branch_id,
        parent_branch,
        agent_id,
        seed,
        reset_parameters,
        provenance: Some(wire::Provenance {
            server,
            session_id,
            episode_in_session,
            environment_fingerprint,
        }),
        attempts: attempts.into_iter().map(attempt).collect(),
        reset: reset.map(observed),
        steps: steps.into_iter().map(step).collect(),
        reward,
        reward_components: named(reward_components),
        end: Some(end(&how)),
        tokens: (!tokens.token_ids.is_empty()).then(|| self::tokens(tokens)),
        generations: generations.into_iter().map(generated).collect(),
        turns: turns.into_iter().map(turn_span).collect(),
        messages,
        sampling,
        blobs: blobs.into_iter().map(blob).collect(),
        metrics: named(metrics),
        timing: Some(wire::Timing {
            run_started_unix_us,
            started_us,
            reset_us,
            ended_us,
            policy_version_started: Some(version(policy_version_started)),
            policy_version_ended: Some(version(policy_version_ended)),
        }),
        content_hash: content_hash.to_string(),
    }
}

/// The record of a group as a message.
#[must_use]
pub fn group(group: record::GroupRecord) -> wire::Group {
    // Taken apart, so that a new field cannot be forgotten here.
    let record::GroupRecord {
        job_id,
        group_id,
        task_id,
        environment,
        seed,
        asked,
        oversampled,
        complete_at,
        used,
        outcome,
        filter,
        refill_of,
        first_observations,
        duplicates,
        steps_used,
        steps_wasted,
        tokens_used,
        tokens_wasted,
        started_us,
        ended_us,
        members,
    } = group;
    let outcome = match outcome {
        record::GroupOutcome::Complete => wire::GroupOutcome::Complete,
        record::GroupOutcome::Short => wire::GroupOutcome::Short,
        record::GroupOutcome::Filtered => wire::GroupOutcome::Filtered,
    };
    let first_observations = match first_observations {
        record::FirstObservations::Unknown => wire::FirstObservations::Unknown,
        record::FirstObservations::Agree => wire::FirstObservations::Agree,
        record::FirstObservations::Differ => wire::FirstObservations::Differ,
    };
    wire::Group {
        job_id,
        group_id,
        task_id,
        environment,
        seed,
        asked,
        oversampled,
        complete_at,
        used,
        outcome: outcome.into(),
        filter,
        refill_of,
        first_observations: first_observations.into(),
        duplicates,
        steps_used,
        steps_wasted,
        tokens_used,
        tokens_wasted,
        started_us,
        ended_us,
        members: members.into_iter().map(member).collect(),
    }
}

/// A trainer's answer to a turn as a decision: an action or why there is none, and what was generated to
/// come to it, in its order. Where it tells of nothing, that is one generation whose tokens are unknown, for
/// its version.
///
/// # Errors
///
/// What is wrong with it, for people: lists of tokens that differ in length, a version that is too
/// large, or a part that is none.
pub fn decision(
    action: wire::Action,
    current: ours::PolicyVersion,
) -> Result<(Result<Bytes, ours::PolicyError>, Vec<ours::Generated>), String> {
    let wire::Action { turn: _, action, error, version, mut generations } = action;
    let decided = match &version {
        Some(_) => policy_version(version.as_ref()).ok_or("the version is too large")?,
        None => current,
    };
    if generations.is_empty() {
        generations.push(wire::Generated::default());
    }
    let several = generations.len() > 1;
    let read = |(index, generated)| {
        let named =
            |problem| if several { format!("generation {index}: {problem}") } else { problem };
        read_generated(generated, decided).map_err(named)
    };
    let generations = generations.into_iter().enumerate().map(read).collect::<Result<_, _>>()?;
    let action = if error.is_empty() { Ok(action) } else { Err(ours::PolicyError::new(error)) };
    Ok((action, generations))
}

fn read_generated(
    generated: wire::Generated,
    decided: ours::PolicyVersion,
) -> Result<ours::Generated, String> {
    let wire::Generated {
        prompt_token_ids,
        token_ids,
        logprobs,
        mut loss_mask,
        policy_versions,
        parent,
        kind,
        prompt_shared,
        // Which step it is for is the engine's to know.
        step: _,
        finish_reason,
        tool,
        generation_us,
        queue_us,
    } = generated;
    let tokens = token_ids.len();
    if loss_mask.is_empty() {
        loss_mask = vec![1; tokens].into();
    }
    for (name, length) in [("logprobs", logprobs.len()), ("loss_mask", loss_mask.len())] {
        if length != tokens && !(name == "logprobs" && length == 0) {
            return Err(format!("{name} has {length} entries for {tokens} tokens"));
        }
    }
    if let Some(value) = loss_mask.iter().find(|value| **value > 1) {
        return Err(format!(
            "loss_mask has a {value}: it is one byte for each token, 1 for those to be trained on, else 0"
        ));
    }
    let mut spans = policy_versions
        .iter()
        .map(|span| {
            let version = policy_version(span.version.as_ref())?;
            Some(ours::VersionSpan { version, tokens: span.tokens })
        })
        .collect::<Option<Vec<_>>>()
        .ok_or("a version is too large")?;
    if spans.is_empty() {
        let tokens = u32::try_from(tokens).map_err(|_| "there are too many tokens")?;
        spans.push(ours::VersionSpan { version: decided, tokens });
    }
    let covered: u64 = spans.iter().map(|span| u64::from(span.tokens)).sum();
    if covered != tokens as u64 {
        return Err(format!("policy_versions covers {covered} of {tokens} tokens"));
    }
    let kind = if kind.is_empty() { "agent" } else { &kind };
    let kind = ours::GeneratedKind::from_name(kind).ok_or_else(|| {
        format!("`{kind}` is no kind of generation: agent, auxiliary or discarded")
    })?;
    Ok(ours::Generated {
        prompt_token_ids,
        token_ids,
        logprobs,
        loss_mask: loss_mask.into(),
        policy_versions: spans,
        parent,
        kind,
        prompt_shared,
        step: None,
        finish_reason,
        tool,
        generation_us,
        queue_us,
    })
}

fn attempt(attempt: record::Attempt) -> wire::Attempt {
    let record::Attempt { server, started_us, ended_us, steps, cause, message } = attempt;
    wire::Attempt { server, started_us, ended_us, steps, cause, message }
}

fn observed(observed: ours::Observed) -> wire::Observed {
    let ours::Observed { observation, reward, metadata, ended } = observed;
    let ended = match ended {
        None => wire::Ended::Not,
        Some(ours::Ended::Terminated) => wire::Ended::Terminated,
        Some(ours::Ended::TerminatedUnmapped) => wire::Ended::Done,
        Some(ours::Ended::Truncated) => wire::Ended::Truncated,
    };
    wire::Observed {
        observation: observation.text().clone(),
        reward: reward.value,
        reward_raw: reward.raw,
        ended: ended.into(),
        metadata,
    }
}

fn step(step: record::Step) -> wire::Step {
    let record::Step { action, observed, environment_us, policy_us } = step;
    wire::Step { action, observed: Some(self::observed(observed)), environment_us, policy_us }
}

fn end(end: &record::End) -> wire::End {
    let (kind, cause) = (end.name().to_owned(), end.cause());
    let record::End::Failed(failure) = end else {
        return wire::End { kind, cause, ..wire::End::default() };
    };
    wire::End {
        kind,
        cause,
        message: failure.message.clone(),
        session_lost: failure.session == ours::SessionFate::Lost,
        retry_after_ms: failure
            .retry_after
            .map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)),
    }
}

fn tokens(tokens: record::Tokens) -> wire::Tokens {
    let record::Tokens { token_ids, prompt_len, loss_mask, logprobs, policy_versions } = tokens;
    wire::Tokens {
        token_ids,
        prompt_len,
        loss_mask: loss_mask.into(),
        logprobs,
        policy_versions: spans(policy_versions),
    }
}

fn generated(generated: ours::Generated) -> wire::Generated {
    let ours::Generated {
        prompt_token_ids,
        token_ids,
        logprobs,
        loss_mask,
        policy_versions,
        parent,
        kind,
        prompt_shared,
        step,
        finish_reason,
        tool,
        generation_us,
        queue_us,
    } = generated;
    wire::Generated {
        prompt_token_ids,
        token_ids,
        logprobs,
        loss_mask: loss_mask.into(),
        policy_versions: spans(policy_versions),
        parent,
        kind: kind.name().into(),
        prompt_shared,
        step,
        finish_reason,
        tool,
        generation_us,
        queue_us,
    }
}

fn spans(spans: Vec<ours::VersionSpan>) -> Vec<wire::VersionSpan> {
    let message = |span: ours::VersionSpan| wire::VersionSpan {
        version: Some(version(span.version)),
        tokens: span.tokens,
    };
    spans.into_iter().map(message).collect()
}

fn turn_span(turn: record::TurnSpan) -> wire::TurnSpan {
    let record::TurnSpan {
        role,
        start,
        end,
        tool,
        finish_reason,
        generation_us,
        environment_us,
        queue_us,
    } = turn;
    wire::TurnSpan {
        role,
        start,
        end,
        tool,
        finish_reason,
        generation_us,
        environment_us,
        queue_us,
    }
}

fn blob(blob: record::Blob) -> wire::Blob {
    let record::Blob { name, dtype, shape, data } = blob;
    wire::Blob { name, dtype, shape, data }
}

fn named(numbers: Vec<(String, f64)>) -> Vec<wire::NamedNumber> {
    numbers.into_iter().map(|(name, value)| wire::NamedNumber { name, value }).collect()
}

/// A member of a group as a message.
#[must_use]
pub fn member(member: record::MemberRecord) -> wire::Member {
    let record::MemberRecord {
        trajectory_id,
        sample_index,
        used,
        end: how,
        reward,
        steps,
        tokens,
        first_observation,
        attempts,
    } = member;
    wire::Member {
        trajectory_id,
        sample_index,
        used,
        end: Some(end(&how)),
        reward,
        steps,
        tokens,
        first_observation,
        attempts: attempts
            .into_iter()
            .map(|it| wire::MemberAttempt { cause: it.cause, steps: it.steps, tokens: it.tokens })
            .collect(),
    }
}
