//! Lines of `results.jsonl`: OpenEnv's `EpisodeRecord`, as `openenv collect` writes them.

use bytes::Bytes;
use envmill_protocol::{
    Ended, Observed, Reward, Trajectory,
    record::{ContentHash, End, Step, Truncation, content_hash},
};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::{Map, Value, value::RawValue};

#[derive(Deserialize)]
struct Line<'a> {
    episode_id: String,
    #[serde(borrow, default)]
    messages: Option<&'a RawValue>,
    reward: Option<f64>,
    done: bool,
    #[serde(borrow)]
    tool_trace: Vec<Call<'a>>,
    #[serde(default)]
    metrics: Map<String, Value>,
    #[serde(default)]
    verify_metrics: Map<String, Value>,
    #[serde(default)]
    task: Value,
    #[serde(borrow, default)]
    extra: Extra<'a>,
}

#[derive(Deserialize)]
struct Call<'a> {
    tool_name: String,
    #[serde(borrow)]
    arguments: &'a RawValue,
    #[serde(borrow)]
    result: CallResult<'a>,
}

#[derive(Deserialize)]
struct CallResult<'a> {
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
    #[serde(default)]
    done: bool,
    #[serde(borrow, default)]
    metadata: Metadata<'a>,
    #[serde(default)]
    error: Value,
}

#[derive(Default, Deserialize)]
struct Metadata<'a> {
    #[serde(borrow, default)]
    reward: Option<&'a RawValue>,
    #[serde(borrow, default)]
    metadata: Option<&'a RawValue>,
}

/// What `envmill run --episode-records` adds.
#[derive(Default, Deserialize)]
struct Extra<'a> {
    #[serde(default)]
    environment: String,
    #[serde(default)]
    seed: Option<u64>,
    #[serde(borrow, default)]
    reset_parameters: Option<&'a RawValue>,
    #[serde(default)]
    end: String,
    #[serde(default)]
    cause: String,
    #[serde(default)]
    reward_missing: bool,
    #[serde(default)]
    content_hash: String,
}

/// Whether a line is an `EpisodeRecord`, by its keys.
#[must_use]
pub fn is_episode_record(line: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Keys {
        schema_version: Option<IgnoredAny>,
        episode_id: Option<IgnoredAny>,
        tool_trace: Option<IgnoredAny>,
    }
    serde_json::from_slice::<Keys>(line).is_ok_and(|keys| {
        keys.schema_version.is_none() && keys.episode_id.is_some() && keys.tool_trace.is_some()
    })
}

/// A line as a record. It has no timings, attempts, tokens and first observation. Its steps are the calls
/// of tools; one of a tool other than `step` is the action `{"tool_name": …, "arguments": …}`. Where
/// Envmill has not written it, an episode that is not `done` counts as cut by a limit on steps: the line
/// does not say by what.
///
/// # Errors
///
/// The line is no `EpisodeRecord`.
pub fn read_episode_record(line: &[u8]) -> Result<Trajectory, serde_json::Error> {
    let Line {
        episode_id,
        messages,
        reward,
        done,
        tool_trace,
        metrics,
        verify_metrics,
        task,
        extra,
    } = serde_json::from_slice(line)?;
    let end = End::from_words(&extra.end, &extra.cause, String::new(), false, None);
    let end = end.unwrap_or(if done {
        End::Completed { mapped: false }
    } else {
        End::Truncated(Truncation::MaxSteps)
    });
    let mut record = Trajectory {
        task_id: match task {
            Value::Null => String::new(),
            Value::String(task) => task,
            other => other.to_string(),
        },
        environment: extra.environment,
        seed: extra.seed,
        reset_parameters: raw(extra.reset_parameters),
        steps: tool_trace.into_iter().map(step).collect(),
        reward: reward.filter(|_| !extra.reward_missing),
        reward_components: numbers(verify_metrics),
        messages: raw(messages),
        metrics: numbers(metrics),
        ..Trajectory::bare(episode_id, end)
    };
    record.group_id = crate::episode_number(&record).unwrap_or_default();
    record.content_hash = hash(&extra.content_hash).unwrap_or_else(|| content_hash(&record));
    Ok(record)
}

fn step(call: Call<'_>) -> Step {
    let Call { tool_name, arguments, result } = call;
    let action = if tool_name == "step" {
        raw(Some(arguments))
    } else {
        let name = Value::from(tool_name);
        Bytes::from(format!("{{\"tool_name\":{name},\"arguments\":{}}}", arguments.get()))
    };
    let observation = if result.error.is_null() {
        result.data.map_or_else(|| Bytes::from_static(b"null"), |data| raw(Some(data)))
    } else {
        Bytes::from(serde_json::json!({ "error": result.error }).to_string())
    };
    Step {
        action,
        observed: Observed {
            observation: observation.into(),
            reward: Reward::from_raw(raw(result.metadata.reward)),
            metadata: raw(result.metadata.metadata),
            ended: result.done.then_some(Ended::TerminatedUnmapped),
        },
        environment_us: 0,
        policy_us: 0,
    }
}

fn raw(value: Option<&RawValue>) -> Bytes {
    value.map_or_else(Bytes::new, |value| Bytes::copy_from_slice(value.get().as_bytes()))
}

fn numbers(named: Map<String, Value>) -> Vec<(String, f64)> {
    named.into_iter().filter_map(|(name, value)| Some((name, value.as_f64()?))).collect()
}

fn hash(text: &str) -> Option<ContentHash> {
    let mut bytes = [0; 16];
    if text.len() != 32 || !text.is_ascii() {
        return None;
    }
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * index..2 * index + 2], 16).ok()?;
    }
    Some(ContentHash(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `openenv collect` has written, shortened.
    const COLLECTED: &str = r#"{"episode_id": "ep-000003", "messages": [{"role": "user", "content": "Board"}], "reward": 1.0, "done": true, "tool_trace": [{"tool_name": "play_move", "arguments": {"action_id": 0}, "result": {"data": {"board": "O"}, "done": false, "metadata": {"reward": 0.0, "state": {"step_count": 2}}, "error": null}}, {"tool_name": "play_move", "arguments": {"action_id": 9}, "result": {"data": null, "done": true, "metadata": {}, "error": "no such move"}}], "metrics": {"turns": 2, "model": "x"}, "verify_metrics": {}, "artifacts": {}, "task": {"id": 4}, "extra": {}}"#;

    #[test]
    fn what_openenv_collected_reads() {
        assert!(is_episode_record(COLLECTED.as_bytes()));
        let record = read_episode_record(COLLECTED.as_bytes()).unwrap();
        assert_eq!(record.trajectory_id, "ep-000003");
        assert_eq!(
            (record.group_id, record.reward, &*record.task_id),
            (3, Some(1.0), "{\"id\":4}")
        );
        assert_eq!(record.end, End::Completed { mapped: false });
        let [first, second] = &record.steps[..] else { panic!("two steps") };
        assert_eq!(first.action, r#"{"tool_name":"play_move","arguments":{"action_id": 0}}"#);
        assert_eq!(first.observed.reward.value, Some(0.0));
        assert_eq!(second.observed.reward.value, None);
        assert_eq!(second.observed.observation, r#"{"error":"no such move"}"#);
        assert_eq!(record.metrics, [("turns".to_owned(), 2.0)]);
    }

    #[test]
    fn other_lines_are_no_episode_records() {
        for line in ["", "{}", "[]", r#"{"schema_version":1,"episode_id":"","tool_trace":[]}"#] {
            assert!(!is_episode_record(line.as_bytes()), "{line}");
        }
        assert!(read_episode_record(b"{}").is_err());
    }
}
