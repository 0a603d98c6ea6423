//! Records as OpenEnv's `TrainingTrace`, version 1.

use envmill_protocol::{Generated, GeneratedKind, Trajectory, record::whole_prompt};
use serde_json::{Value, json};

/// A record from which no trace can be made: a trace makes up neither tokens nor log-probabilities.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoTrace {
    /// No language model played, or nobody has said which tokens it sampled.
    #[error("it has no sampled tokens")]
    NoTokens,
    /// A trace needs a log-probability for each sampled token.
    #[error("it lacks the log-probabilities of sampled tokens")]
    NoLogprobs,
}

/// The record's calls of the model as a trace: one turn for each generation of the agent, with exactly the
/// prompt that it was sampled for. Side calls and what was thrown away are left out; a record that has its
/// conversation only as a whole becomes one turn. `envmill.convert.openenv` makes the same of a record in
/// Python.
///
/// # Errors
///
/// Tokens or their log-probabilities are not known.
pub fn training_trace(record: &Trajectory) -> Result<Value, NoTrace> {
    let spoken = record.generations.iter().enumerate();
    let mut turns = spoken
        .filter(|(_, it)| it.kind == GeneratedKind::Agent)
        .map(|(index, it)| turn(record, index, it))
        .collect::<Result<Vec<_>, _>>()?;
    if turns.is_empty() {
        turns.push(whole(record)?);
    }
    Ok(json!({"schema_version": 1, "turns": turns}))
}

fn turn(record: &Trajectory, index: usize, it: &Generated) -> Result<Value, NoTrace> {
    if it.token_ids.is_empty() || it.prompt_len() == 0 {
        return Err(NoTrace::NoTokens);
    }
    if it.logprobs.len() != it.token_ids.len() {
        return Err(NoTrace::NoLogprobs);
    }
    let mut mask = vec![0; it.prompt_len()];
    mask.extend_from_slice(&it.loss_mask);
    let versions: Vec<_> = it
        .policy_versions
        .iter()
        .map(|span| json!([span.version.step(), span.version.lineage(), span.tokens]))
        .collect();
    let mut metadata = ids(record);
    metadata["generation"] = index.into();
    metadata["policy_versions"] = versions.into();
    if let Some(parent) = it.parent {
        metadata["parent"] = node(record, parent as usize).into();
    }
    if let Some(step) = it.step {
        metadata["step"] = step.into();
    }
    for (key, word) in [("finish_reason", &it.finish_reason), ("tool", &it.tool)] {
        if !word.is_empty() {
            metadata[key] = word.as_str().into();
        }
    }
    for (key, us) in [("generation_us", it.generation_us), ("queue_us", it.queue_us)] {
        if us > 0 {
            metadata[key] = us.into();
        }
    }
    Ok(json!({
        "node_id": node(record, index),
        "prompt_token_ids": whole_prompt(&record.generations, index),
        "completion_token_ids": it.token_ids,
        "per_token_logps": finite(&it.logprobs),
        "loss_mask": mask,
        "request": {},
        "response": {},
        "metadata": metadata,
    }))
}

fn whole(record: &Trajectory) -> Result<Value, NoTrace> {
    let tokens = &record.tokens;
    let prompt = tokens.prompt_len as usize;
    if tokens.token_ids.len() <= prompt || tokens.loss_mask.len() != tokens.token_ids.len() {
        return Err(NoTrace::NoTokens);
    }
    if tokens.logprobs.len() != tokens.token_ids.len() {
        return Err(NoTrace::NoLogprobs);
    }
    Ok(json!({
        "node_id": node(record, 0),
        "prompt_token_ids": tokens.token_ids[..prompt],
        "completion_token_ids": tokens.token_ids[prompt..],
        "per_token_logps": finite(&tokens.logprobs[prompt..]),
        "loss_mask": tokens.loss_mask,
        "request": {},
        "response": {},
        "metadata": ids(record),
    }))
}

fn node(record: &Trajectory, index: usize) -> String {
    format!("{}/{index}", record.trajectory_id)
}

fn ids(record: &Trajectory) -> Value {
    json!({
        "trajectory_id": record.trajectory_id,
        "group_id": record.group_id,
        "sample_index": record.sample_index,
        "task_id": record.task_id,
        "environment": record.environment,
    })
}

/// JSON has no infinity, and no token that was sampled has the probability 0.
fn finite(logprobs: &[f32]) -> Vec<f32> {
    logprobs.iter().map(|it| it.max(f32::MIN)).collect()
}
