//! What was captured, as a record's generations and as OpenEnv's `TrainingTrace`.

use envmill_inference::{Finish, Outcome};
use envmill_protocol::{Generated, GeneratedKind, record::whole_prompt};
use serde_json::{Value, json};

use crate::{Begun, Call, Captured, End, Kept, Timings};

/// Why there is no trace.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// A trace needs a log-probability for each token.
    #[error("the inference engine gave no log-probabilities for call {0}, and a trace needs them")]
    NoLogprobs(usize),
}

/// A generation as a record has it, with its whole prompt.
pub(crate) fn generated(
    prompt: &[u32],
    outcome: Outcome,
    parent: Option<u32>,
    kind: GeneratedKind,
    timings: Timings,
) -> Generated {
    Generated {
        prompt_token_ids: prompt.to_vec(),
        finish_reason: outcome.finish().map_or("", Finish::name).to_owned(),
        generation_us: timings.generation_us,
        queue_us: timings.queue_us,
        loss_mask: vec![1; outcome.token_ids.len()],
        token_ids: outcome.token_ids,
        logprobs: outcome.logprobs,
        policy_versions: outcome.versions,
        parent,
        kind,
        ..Generated::default()
    }
}

impl Captured {
    /// The text of OpenEnv's `TrainingTrace` in its version 1: a turn for each generation, named
    /// `call-` and the call's index. Only what is the agent's own is unmasked; `metadata` says what each
    /// is.
    ///
    /// # Errors
    ///
    /// If log-probabilities are missing.
    pub fn training_trace(&self) -> Result<String, TraceError> {
        let mut turns = Vec::with_capacity(self.generations.len());
        for (index, call) in self.calls.iter().enumerate() {
            let generation = call.generation.and_then(|it| self.generations.get(it as usize));
            let Some(generated) = generation else { continue };
            if generated.logprobs.len() != generated.token_ids.len() {
                return Err(TraceError::NoLogprobs(index));
            }
            let prompt = whole_prompt(&self.generations, call.generation.unwrap_or(0) as usize);
            turns.push(turn(index, call, generated, &prompt));
        }
        Ok(json!({"schema_version": 1, "turns": turns}).to_string())
    }
}

fn turn(index: usize, call: &Call, generated: &Generated, prompt: &[u32]) -> Value {
    let is_agent = generated.kind == GeneratedKind::Agent;
    let mut mask = vec![0; prompt.len()];
    mask.extend(generated.loss_mask.iter().map(|it| if is_agent { *it } else { 0 }));
    let versions: Vec<_> =
        generated.policy_versions.iter().map(|it| json!([it.version.0, it.tokens])).collect();
    let timings = call.timings;
    json!({
        "node_id": format!("call-{index}"),
        "prompt_token_ids": prompt,
        "completion_token_ids": generated.token_ids,
        // As they are: JSON has no infinity, and no token that was sampled has the probability 0.
        "per_token_logps": generated.logprobs.iter().map(|it| it.max(f32::MIN)).collect::<Vec<_>>(),
        "loss_mask": mask,
        "request": object(&call.request),
        "response": object(&call.response),
        "metadata": {
            "parent_node_id": call.parent.map(|it| format!("call-{it}")),
            "kind": generated.kind.name(),
            "begun": match call.begun {
                Begun::Anew => "anew",
                Begun::Continued => "continued",
                Begun::Forked(_) => "forked",
            },
            "end": call.end.name(),
            "error": match &call.end { End::Failed(why) => Some(why), _ => None },
            "finish_reason": generated.finish_reason,
            "sampling": serde_json::from_slice::<Value>(&call.sampling).unwrap_or_default(),
            "tool": generated.tool,
            "policy_versions": versions,
            "asked_us": timings.asked_us,
            "queue_us": timings.queue_us,
            "first_token_us": timings.first_token_us,
            "generation_us": timings.generation_us,
            "answer_us": timings.answer_us,
        },
    })
}

fn object(kept: &Kept) -> Value {
    match kept {
        Kept::Json(json) => {
            let value = serde_json::from_slice(json).ok().filter(Value::is_object);
            value.unwrap_or_else(|| json!({}))
        }
        Kept::TooLong(bytes) => json!({"left_out_bytes": bytes}),
    }
}

pub(crate) fn count(it: usize) -> u32 {
    u32::try_from(it).unwrap_or(u32::MAX)
}
