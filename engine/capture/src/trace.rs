//! What was captured, as a record's generations and as OpenEnv's `TrainingTrace`.

use std::io::{self, Write};

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
    /// It could not be written.
    #[error(transparent)]
    Io(#[from] io::Error),
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
    /// Writes the text of OpenEnv's `TrainingTrace` in its version 1, one line of JSON: a turn for each
    /// generation, named `call-` and the call's index. Only what is the agent's own is unmasked; `metadata`
    /// says what each is. Each turn has its whole prompt and request, so that the text grows with the square
    /// of the turns; one turn at a time is in memory.
    ///
    /// # Errors
    ///
    /// If log-probabilities are missing, and nothing is written then; or if it cannot be written.
    pub fn write_training_trace(&self, out: &mut impl Write) -> Result<(), TraceError> {
        let calls = self.calls.iter().enumerate();
        let turns = calls.filter_map(|(index, call)| {
            let generation = call.generation? as usize;
            Some((index, call, generation, self.generations.get(generation)?))
        });
        let lacks = |it: &Generated| it.logprobs.len() != it.token_ids.len();
        if let Some((index, ..)) = turns.clone().find(|(.., it)| lacks(it)) {
            return Err(TraceError::NoLogprobs(index));
        }
        out.write_all(b"{\"schema_version\":1,\"turns\":[")?;
        for (place, (index, call, generation, generated)) in turns.enumerate() {
            if place > 0 {
                out.write_all(b",")?;
            }
            let prompt = whole_prompt(&self.generations, generation);
            let turn = turn(index, call, generated, &prompt, &self.request(index));
            serde_json::to_writer(&mut *out, &turn).map_err(io::Error::from)?;
        }
        out.write_all(b"]}")?;
        Ok(())
    }
}

fn turn(index: usize, call: &Call, generated: &Generated, prompt: &[u32], request: &Kept) -> Value {
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
        "request": object(request),
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
