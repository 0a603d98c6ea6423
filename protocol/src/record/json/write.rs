//! Writing.

use base64::Engine as _;
use serde::Serialize;

use super::end;
use crate::{
    Generated, Observed, Trajectory, VersionSpan,
    json_text::{is_value, put, put_string},
    record::{Attempt, Blob, Provenance, SCHEMA_VERSION, Step, Timing, Tokens, TurnSpan},
};

/// Appends the record as one line, with its newline. What it writes is always one line of valid
/// JSON.
///
/// Raw JSON goes in as it is, save that newlines between its tokens become spaces. Text that is no
/// JSON (no worker of ours hands on any) goes in as a JSON string. Cost: about one scan of the
/// record's texts and one copy.
pub fn write_json_line(out: &mut Vec<u8>, trajectory: &Trajectory) {
    // Taken apart, so that a new field cannot be forgotten here.
    let Trajectory {
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
        end,
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
    out.reserve(size_estimate(trajectory));
    let mut line = Object::open(out);
    line.field("schema_version", &SCHEMA_VERSION);
    line.string("trajectory_id", trajectory_id);
    line.string("job_id", job_id);
    line.field("group_id", group_id);
    line.field("sample_index", sample_index);
    line.string("task_id", task_id);
    line.string("environment", environment);
    line.field("branch_id", branch_id);
    line.field("parent_branch", parent_branch);
    line.field("agent_id", agent_id);
    line.field("seed", seed);
    line.raw("reset_parameters", reset_parameters);
    write_provenance(line.key("provenance"), provenance);
    list(line.key("attempts"), attempts, write_attempt);
    match reset {
        Some(observed) => write_reset(line.key("reset"), observed),
        None => line.raw("reset", b""),
    }
    list(line.key("steps"), steps, write_step);
    match reward {
        Some(reward) => number(line.key("reward"), *reward),
        None => line.raw("reward", b""),
    }
    named_numbers(line.key("reward_components"), reward_components);
    end::write(line.key("end"), end);
    write_tokens(line.key("tokens"), tokens);
    list(line.key("generations"), generations, write_generated);
    list(line.key("turns"), turns, write_turn);
    line.raw("messages", messages);
    line.raw("sampling", sampling);
    list(line.key("blobs"), blobs, write_blob);
    named_numbers(line.key("metrics"), metrics);
    write_timing(line.key("timing"), timing);
    line.string("content_hash", &content_hash.to_string());
    line.close();
    out.push(b'\n');
}

/// A guess that spares the buffer most of its growth; only the parts that can be large count.
fn size_estimate(trajectory: &Trajectory) -> usize {
    let steps: usize =
        trajectory.steps.iter().map(|step| 96 + step.action.len() + size(&step.observed)).sum();
    let blobs: usize = trajectory.blobs.iter().map(|blob| blob.data.len() / 3 * 4 + 128).sum();
    let reset = trajectory.reset.as_ref().map_or(0, size);
    1536 + reset
        + steps
        + blobs
        + trajectory.messages.len()
        + 24 * trajectory.tokens.token_ids.len()
}

fn size(observed: &Observed) -> usize {
    observed.observation.len() + observed.reward.raw.len() + observed.metadata.len()
}

fn write_provenance(out: &mut Vec<u8>, provenance: &Provenance) {
    let Provenance { server, session_id, episode_in_session, environment_fingerprint } = provenance;
    let mut object = Object::open(out);
    object.string("server", server);
    object.string("session_id", session_id);
    object.field("episode_in_session", episode_in_session);
    object.string("environment_fingerprint", environment_fingerprint);
    object.close();
}

fn write_attempt(out: &mut Vec<u8>, attempt: &Attempt) {
    let Attempt { server, started_us, ended_us, steps, cause, message } = attempt;
    let mut object = Object::open(out);
    object.string("server", server);
    object.field("started_us", started_us);
    object.field("ended_us", ended_us);
    object.field("steps", steps);
    object.string("cause", cause);
    object.string("message", message);
    object.close();
}

fn write_reset(out: &mut Vec<u8>, observed: &Observed) {
    let mut object = Object::open(out);
    write_observed(&mut object, observed);
    object.close();
}

fn write_step(out: &mut Vec<u8>, step: &Step) {
    let Step { action, observed, environment_us, policy_us } = step;
    let mut object = Object::open(out);
    object.raw_if_any("action", action);
    write_observed(&mut object, observed);
    object.field("environment_us", environment_us);
    object.field("policy_us", policy_us);
    object.close();
}

fn write_observed(object: &mut Object<'_>, observed: &Observed) {
    let Observed { observation, reward, metadata, ended } = observed;
    object.raw_if_any("observation", observation);
    object.raw("reward", &reward.raw);
    if reward.raw.is_empty() {
        object.field("reward_missing", &true);
    }
    object.raw_if_any("metadata", metadata);
    if let Some(ended) = ended {
        object.string("ended", ended.name());
    }
}

fn write_tokens(out: &mut Vec<u8>, tokens: &Tokens) {
    let Tokens { token_ids, prompt_len, loss_mask, logprobs, policy_versions } = tokens;
    let mut object = Object::open(out);
    object.field("token_ids", token_ids);
    object.field("prompt_len", prompt_len);
    object.field("loss_mask", loss_mask);
    write_logprobs(object.key("logprobs"), logprobs);
    list(object.key("policy_versions"), policy_versions, write_versions);
    object.close();
}

fn write_generated(out: &mut Vec<u8>, generated: &Generated) {
    let Generated {
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
    let mut object = Object::open(out);
    object.field("prompt_token_ids", prompt_token_ids);
    object.field("prompt_shared", prompt_shared);
    object.field("token_ids", token_ids);
    write_logprobs(object.key("logprobs"), logprobs);
    object.field("loss_mask", loss_mask);
    list(object.key("policy_versions"), policy_versions, write_versions);
    object.field("parent", parent);
    object.string("kind", kind.name());
    object.field("step", step);
    object.string("finish_reason", finish_reason);
    object.string("tool", tool);
    object.field("generation_us", generation_us);
    object.field("queue_us", queue_us);
    object.close();
}

fn write_versions(out: &mut Vec<u8>, span: &VersionSpan) {
    let VersionSpan { version, tokens } = span;
    let mut object = Object::open(out);
    object.field("version", &version.0);
    object.field("tokens", tokens);
    object.close();
}

fn write_turn(out: &mut Vec<u8>, turn: &TurnSpan) {
    let TurnSpan { role, start, end, tool, finish_reason, generation_us, environment_us, queue_us } =
        turn;
    let mut object = Object::open(out);
    object.string("role", role);
    object.field("start", start);
    object.field("end", end);
    object.string("tool", tool);
    object.string("finish_reason", finish_reason);
    object.field("generation_us", generation_us);
    object.field("environment_us", environment_us);
    object.field("queue_us", queue_us);
    object.close();
}

fn write_blob(out: &mut Vec<u8>, blob: &Blob) {
    let Blob { name, dtype, shape, data } = blob;
    let mut object = Object::open(out);
    object.string("name", name);
    object.string("dtype", dtype);
    object.field("shape", shape);
    // Base64 needs no escapes.
    object.string("data", &base64::engine::general_purpose::STANDARD.encode(data));
    object.close();
}

fn write_timing(out: &mut Vec<u8>, timing: &Timing) {
    let Timing {
        run_started_unix_us,
        started_us,
        reset_us,
        ended_us,
        policy_version_started,
        policy_version_ended,
    } = timing;
    let mut object = Object::open(out);
    object.field("run_started_unix_us", run_started_unix_us);
    object.field("started_us", started_us);
    object.field("reset_us", reset_us);
    object.field("ended_us", ended_us);
    object.field("policy_version_started", &policy_version_started.0);
    object.field("policy_version_ended", &policy_version_ended.0);
    object.close();
}

fn write_logprobs(out: &mut Vec<u8>, logprobs: &[f32]) {
    list(out, logprobs, |out, logprob| {
        // The shortest decimal that is this `f32`, not this `f32` as an `f64`.
        if logprob.is_finite() { put(out, logprob) } else { number(out, f64::from(*logprob)) }
    });
}

fn named_numbers(out: &mut Vec<u8>, numbers: &[(String, f64)]) {
    let mut object = Object::open(out);
    for (name, value) in numbers {
        number(object.any_key(name), *value);
    }
    object.close();
}

/// JSON has no numbers beyond the finite ones; they become the words of protobuf's JSON.
pub(super) fn number(out: &mut Vec<u8>, value: f64) {
    if value.is_finite() {
        put(out, &value);
    } else if value.is_nan() {
        put_string(out, "NaN");
    } else {
        put_string(out, if value > 0.0 { "Infinity" } else { "-Infinity" });
    }
}

pub(super) fn list<T>(out: &mut Vec<u8>, items: &[T], write: impl Fn(&mut Vec<u8>, &T)) {
    out.push(b'[');
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write(out, item);
    }
    out.push(b']');
}

fn raw(out: &mut Vec<u8>, text: &[u8]) {
    match str::from_utf8(text) {
        Ok(json) if is_value(json) => {
            if memchr::memchr2(b'\n', b'\r', text).is_none() {
                out.extend_from_slice(text);
            } else {
                // In valid JSON they stand between tokens: inside strings they are escaped.
                out.extend(text.iter().map(|&byte| match byte {
                    b'\n' | b'\r' => b' ',
                    other => other,
                }));
            }
        }
        Ok(text) => put_string(out, text),
        Err(_) => put_string(out, &String::from_utf8_lossy(text)),
    }
}

/// An object being written.
pub(super) struct Object<'o> {
    out: &'o mut Vec<u8>,
    empty: bool,
}

impl<'o> Object<'o> {
    pub(super) fn open(out: &'o mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out, empty: true }
    }

    pub(super) fn close(self) {
        self.out.push(b'}');
    }

    /// Writes a key that needs no escapes; its value is the caller's to append.
    pub(super) fn key(&mut self, key: &'static str) -> &mut Vec<u8> {
        self.separate();
        self.out.push(b'"');
        self.out.extend_from_slice(key.as_bytes());
        self.out.extend_from_slice(b"\":");
        self.out
    }

    /// Writes a key that may need escapes; its value is the caller's to append.
    fn any_key(&mut self, key: &str) -> &mut Vec<u8> {
        self.separate();
        put_string(self.out, key);
        self.out.push(b':');
        self.out
    }

    fn separate(&mut self) {
        if !self.empty {
            self.out.push(b',');
        }
        self.empty = false;
    }

    pub(super) fn field<T: Serialize>(&mut self, key: &'static str, value: &T) {
        put(self.key(key), value);
    }

    pub(super) fn string(&mut self, key: &'static str, value: &str) {
        put_string(self.key(key), value);
    }

    /// Raw JSON; `null` where it is empty.
    pub(super) fn raw(&mut self, key: &'static str, text: &[u8]) {
        let out = self.key(key);
        if text.is_empty() { out.extend_from_slice(b"null") } else { raw(out, text) }
    }

    /// Raw JSON; nothing at all where it is empty.
    fn raw_if_any(&mut self, key: &'static str, text: &[u8]) {
        if !text.is_empty() {
            self.raw(key, text);
        }
    }
}
