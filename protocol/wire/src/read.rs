//! Messages as records.

use std::time::Duration;

use envmill_protocol::{self as ours, record};

use crate::{self as wire, policy_version};

/// The record of an episode that a message holds.
///
/// # Errors
///
/// What of it this version does not know, for people: a word for an end or a kind of generation, or a
/// number that is too large.
pub fn read_trajectory(message: wire::Trajectory) -> Result<ours::Trajectory, String> {
    // Taken apart, so that a new field cannot be forgotten here.
    let wire::Trajectory {
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
    } = message;
    let generations = generations.into_iter().map(generated).collect::<Result<Vec<_>, _>>()?;
    record::check_prompts(&generations).map_err(|error| error.to_string())?;
    let wire::Provenance { server, session_id, episode_in_session, environment_fingerprint } =
        provenance.unwrap_or_default();
    Ok(ours::Trajectory {
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
        provenance: record::Provenance {
            server,
            session_id,
            episode_in_session,
            environment_fingerprint,
        },
        attempts: attempts.into_iter().map(attempt).collect(),
        reset: reset.map(observed),
        steps: steps.into_iter().map(step).collect(),
        reward,
        reward_components: named(reward_components),
        end: end(how.unwrap_or_default())?,
        tokens: self::tokens(tokens.unwrap_or_default())?,
        generations,
        turns: turns.into_iter().map(turn_span).collect(),
        messages,
        sampling,
        blobs: blobs.into_iter().map(blob).collect(),
        metrics: named(metrics),
        timing: self::timing(timing.unwrap_or_default())?,
        content_hash: self::content_hash(&content_hash)?,
    })
}

fn version(message: Option<&wire::Version>) -> Result<ours::PolicyVersion, String> {
    policy_version(message).ok_or_else(|| format!("a policy version is too large: {message:?}"))
}

fn attempt(message: wire::Attempt) -> record::Attempt {
    let wire::Attempt { server, started_us, ended_us, steps, cause, message } = message;
    record::Attempt { server, started_us, ended_us, steps, cause, message }
}

fn observed(message: wire::Observed) -> ours::Observed {
    // What a later version calls otherwise is over in a way that this one does not know.
    let ended = match message.ended() {
        wire::Ended::Not if message.ended == 0 => None,
        wire::Ended::Terminated => Some(ours::Ended::Terminated),
        wire::Ended::Truncated => Some(ours::Ended::Truncated),
        wire::Ended::Not | wire::Ended::Done => Some(ours::Ended::TerminatedUnmapped),
    };
    let wire::Observed { observation, reward, reward_raw, ended: _, metadata } = message;
    ours::Observed {
        observation: observation.into(),
        reward: ours::Reward { value: reward, raw: reward_raw },
        metadata,
        ended,
    }
}

fn step(message: wire::Step) -> record::Step {
    let wire::Step { action, observed, environment_us, policy_us } = message;
    let observed = self::observed(observed.unwrap_or_default());
    record::Step { action, observed, environment_us, policy_us }
}

fn end(message: wire::End) -> Result<record::End, String> {
    let wire::End { kind, cause, message, session_lost, retry_after_ms } = message;
    let retry_after = retry_after_ms.map(Duration::from_millis);
    record::End::from_words(&kind, &cause, message, session_lost, retry_after)
        .ok_or_else(|| format!("an episode that is `{kind}` for the cause `{cause}`"))
}

fn tokens(message: wire::Tokens) -> Result<record::Tokens, String> {
    let wire::Tokens { token_ids, prompt_len, loss_mask, logprobs, policy_versions } = message;
    Ok(record::Tokens {
        token_ids,
        prompt_len,
        loss_mask: loss_mask.into(),
        logprobs,
        policy_versions: spans(&policy_versions)?,
    })
}

fn generated(message: wire::Generated) -> Result<ours::Generated, String> {
    let wire::Generated {
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
    } = message;
    let word = if kind.is_empty() { "agent" } else { &kind };
    let kind = ours::GeneratedKind::from_name(word)
        .ok_or_else(|| format!("a generation of the kind `{word}`"))?;
    Ok(ours::Generated {
        prompt_token_ids,
        token_ids,
        logprobs,
        loss_mask: loss_mask.into(),
        policy_versions: spans(&policy_versions)?,
        parent,
        kind,
        prompt_shared,
        step,
        finish_reason,
        tool,
        generation_us,
        queue_us,
    })
}

fn spans(messages: &[wire::VersionSpan]) -> Result<Vec<ours::VersionSpan>, String> {
    let span = |message: &wire::VersionSpan| {
        let version = version(message.version.as_ref())?;
        Ok(ours::VersionSpan { version, tokens: message.tokens })
    };
    messages.iter().map(span).collect()
}

fn turn_span(message: wire::TurnSpan) -> record::TurnSpan {
    let wire::TurnSpan {
        role,
        start,
        end,
        tool,
        finish_reason,
        generation_us,
        environment_us,
        queue_us,
    } = message;
    record::TurnSpan {
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

fn blob(message: wire::Blob) -> record::Blob {
    let wire::Blob { name, dtype, shape, data } = message;
    record::Blob { name, dtype, shape, data }
}

fn named(messages: Vec<wire::NamedNumber>) -> Vec<(String, f64)> {
    messages.into_iter().map(|it| (it.name, it.value)).collect()
}

fn timing(message: wire::Timing) -> Result<record::Timing, String> {
    let wire::Timing {
        run_started_unix_us,
        started_us,
        reset_us,
        ended_us,
        policy_version_started,
        policy_version_ended,
    } = message;
    Ok(record::Timing {
        run_started_unix_us,
        started_us,
        reset_us,
        ended_us,
        policy_version_started: version(policy_version_started.as_ref())?,
        policy_version_ended: version(policy_version_ended.as_ref())?,
    })
}

fn content_hash(text: &str) -> Result<record::ContentHash, String> {
    let is_one = text.len() == 32 && text.bytes().all(|digit| digit.is_ascii_hexdigit());
    let number = u128::from_str_radix(text, 16).ok().filter(|_| is_one);
    let number = number.ok_or_else(|| format!("`{text}` as the hash of its content"))?;
    Ok(record::ContentHash(number.to_be_bytes()))
}

#[cfg(test)]
mod tests {
    use envmill_protocol::record::{End, read_json_line};

    use super::*;
    use crate::trajectory;

    /// The example of `docs/record.md`.
    fn example() -> ours::Trajectory {
        let (_, rest) = include_str!("../../../docs/record.md").split_once("```json\n").unwrap();
        let (line, _) = rest.split_once("\n```").unwrap();
        read_json_line(line.as_bytes()).unwrap()
    }

    #[test]
    fn a_record_reads_back_as_it_was() {
        let mut record = example();
        record.parent_branch = Some(3);
        record.timing.policy_version_started = ours::PolicyVersion::new(2, 7).unwrap();
        let failure = ours::Failure {
            retry_after: Some(Duration::from_millis(1500)),
            ..ours::Failure::lost(ours::FailureKind::Disconnected, "the connection broke")
        };
        for end in [record.end.clone(), End::Failed(failure), End::Stale] {
            record.end = end;
            assert_eq!(read_trajectory(trajectory(record.clone())), Ok(record.clone()));
        }
    }

    #[test]
    fn words_of_a_later_version_are_told_of() {
        let message = || trajectory(example());
        let end = wire::End { kind: "ascended".into(), ..wire::End::default() };
        let told = read_trajectory(wire::Trajectory { end: Some(end), ..message() });
        assert!(told.unwrap_err().contains("`ascended`"));
        let mut dreamt = message();
        dreamt.generations[0].kind = "dream".into();
        assert!(read_trajectory(dreamt).unwrap_err().contains("`dream`"));
        let mut shared = message();
        shared.generations[1].prompt_shared = 7;
        let told = read_trajectory(shared).unwrap_err();
        assert!(told.contains("generation 0, which has 6"), "{told}");
        for hash in ["", "zz", "+080082d8fab3ad930989c52a751b99c"] {
            let damaged = wire::Trajectory { content_hash: hash.into(), ..message() };
            assert!(read_trajectory(damaged).is_err(), "{hash}");
        }
    }
}
