//! Records in the shape of OpenEnv's own `EpisodeRecord`, as `openenv collect` writes them.

use std::io::{self, Write};

use envmill_protocol::{Observed, Trajectory, record::End};
use serde::Serialize;
use serde_json::value::RawValue;

/// A line of `results.jsonl`. OpenEnv has no place for tokens, timings, attempts and the like; what
/// of them fits into a few words is in `extra`.
#[derive(Serialize)]
struct EpisodeRecord<'a> {
    episode_id: &'a str,
    messages: Messages<'a>,
    /// OpenEnv wants a number here: 0 where no reward came, which `extra.reward_missing` tells.
    reward: f64,
    done: bool,
    tool_trace: Vec<Call<'a>>,
    metrics: Metrics,
    verify_metrics: serde_json::Map<String, serde_json::Value>,
    artifacts: Artifacts<'a>,
    task: Option<&'a str>,
    extra: Extra<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Messages<'a> {
    Given(&'a RawValue),
    Made(Vec<Message<'a>>),
}

#[derive(Serialize, Default)]
struct Message<'a> {
    role: &'static str,
    content: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_calls: Option<[ToolCall<'a>; 1]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_call_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'static str>,
}

#[derive(Serialize)]
struct ToolCall<'a> {
    id: String,
    #[serde(rename = "type")]
    kind: &'static str,
    function: Function<'a>,
}

#[derive(Serialize)]
struct Function<'a> {
    name: &'static str,
    arguments: &'a str,
}

#[derive(Serialize)]
struct Call<'a> {
    tool_name: &'static str,
    arguments: &'a RawValue,
    result: CallResult<'a>,
}

#[derive(Serialize)]
struct CallResult<'a> {
    data: &'a RawValue,
    done: bool,
    metadata: CallMetadata<'a>,
    error: Option<&'a str>,
}

#[derive(Serialize)]
struct CallMetadata<'a> {
    reward: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<&'a RawValue>,
}

#[derive(Serialize)]
struct Metrics {
    turns: usize,
    tool_calls: usize,
}

#[derive(Serialize)]
struct Artifacts<'a> {
    final_state: Option<&'a RawValue>,
    transcript_length: usize,
}

#[derive(Serialize)]
struct Extra<'a> {
    environment: &'a str,
    seed: Option<u64>,
    reset_parameters: Option<&'a RawValue>,
    end: &'static str,
    cause: String,
    reward_missing: bool,
    content_hash: String,
}

/// The one tool that an environment's `step` is to a conversation.
const STEP: &str = "step";

/// Writes a record as one line.
pub(crate) fn write_line(out: &mut impl Write, record: &Trajectory) -> io::Result<()> {
    let messages = match raw(&record.messages) {
        Some(messages) => Messages::Given(messages),
        None => Messages::Made(conversation(record)),
    };
    let calls: Vec<Call<'_>> = record
        .steps
        .iter()
        .map(|step| Call {
            tool_name: STEP,
            arguments: raw(&step.action).unwrap_or(RawValue::NULL),
            result: CallResult {
                data: raw(&step.observed.observation).unwrap_or(RawValue::NULL),
                done: step.observed.ended.is_some(),
                metadata: CallMetadata {
                    reward: step.observed.reward.value,
                    metadata: raw(&step.observed.metadata),
                },
                error: None,
            },
        })
        .collect();
    let last = record.steps.last().map(|step| &step.observed).or(record.reset.as_ref());
    let components = record.reward_components.iter();
    let line = EpisodeRecord {
        episode_id: &record.trajectory_id,
        reward: record.reward.filter(|reward| reward.is_finite()).unwrap_or(0.0),
        done: matches!(record.end, End::Completed { .. } | End::Truncated(_)),
        metrics: Metrics { turns: record.steps.len(), tool_calls: calls.len() },
        verify_metrics: components.map(|(name, value)| (name.clone(), (*value).into())).collect(),
        artifacts: Artifacts {
            final_state: last.and_then(|last: &Observed| raw(&last.observation)),
            transcript_length: match &messages {
                Messages::Made(messages) => messages.len(),
                Messages::Given(_) => record.turns.len(),
            },
        },
        messages,
        tool_trace: calls,
        task: Some(record.task_id.as_str()).filter(|task| !task.is_empty()),
        extra: Extra {
            environment: &record.environment,
            seed: record.seed,
            reset_parameters: raw(&record.reset_parameters),
            end: record.end.name(),
            cause: record.end.cause(),
            reward_missing: record.reward.is_none(),
            content_hash: record.content_hash.to_string(),
        },
    };
    serde_json::to_writer(&mut *out, &line)?;
    out.write_all(b"\n")
}

/// The episode as a conversation: what the environment shows is said by the user and by a tool, and
/// an action is a call of that tool.
fn conversation(record: &Trajectory) -> Vec<Message<'_>> {
    let mut messages = Vec::with_capacity(1 + 2 * record.steps.len());
    if let Some(reset) = &record.reset {
        let content = text(&reset.observation);
        messages.push(Message { role: "user", content, ..Message::default() });
    }
    for (index, step) in record.steps.iter().enumerate() {
        let id = format!("step-{index}");
        let function = Function { name: STEP, arguments: text(&step.action) };
        messages.push(Message {
            role: "assistant",
            tool_calls: Some([ToolCall { id: id.clone(), kind: "function", function }]),
            ..Message::default()
        });
        messages.push(Message {
            role: "tool",
            content: text(&step.observed.observation),
            tool_call_id: Some(id),
            name: Some(STEP),
            ..Message::default()
        });
    }
    messages
}

fn text(raw: &[u8]) -> &str {
    str::from_utf8(raw).unwrap_or_default()
}

fn raw(raw: &[u8]) -> Option<&RawValue> {
    serde_json::from_slice(raw).ok()
}
