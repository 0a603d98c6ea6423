//! Reading: the twins of the record's types, and the way from them to the record.

use base64::Engine as _;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    end::EndTwin,
    values::{NamedNumbers, Number, Present, SmallNumber},
};
use crate::{
    Ended, Generated, GeneratedKind, Observed, PolicyVersion, Reward, Trajectory, VersionSpan,
    record::{
        Attempt, Blob, ContentHash, ImpossiblePrompt, Provenance, SCHEMA_VERSION, Step, Timing,
        Tokens, TurnSpan, check_prompts,
    },
};

/// Why a line is no record.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It is not JSON, or a field is missing or of another type. A last line that was cut off in
    /// mid-write reads so, too.
    #[error("the line is no record: {0}")]
    Malformed(#[from] serde_json::Error),
    /// A newer version of this program wrote it: read it with that one.
    #[error("the record has schema version {found}; this program reads up to {SCHEMA_VERSION}")]
    NewerSchema {
        /// The record's version.
        found: u32,
    },
    /// A field has the right type and says what this version does not know.
    #[error("`{field}` says what is not known here: {value:?}")]
    UnknownValue {
        /// The field.
        field: &'static str,
        /// What it says.
        value: String,
    },
    /// A generation shares ids of its prompt with another one that does not have them.
    #[error(transparent)]
    Prompt(#[from] ImpossiblePrompt),
}

/// Reads what [`write_json_line`](super::write_json_line) wrote: one line, with or without its
/// newline. Unknown fields are ignored. The record's texts are slices of one copy of the line.
///
/// # Errors
///
/// The line is not a record of a version that is known here; what to do is in [`ReadError`].
pub fn read_json_line(line: &[u8]) -> Result<Trajectory, ReadError> {
    check_version(line)?;
    let line = Bytes::copy_from_slice(line);
    serde_json::from_slice::<Line<'_>>(&line)?.trajectory(&line)
}

/// Refuses a line of a newer schema, whatever else is in it.
pub(super) fn check_version(line: &[u8]) -> Result<(), ReadError> {
    #[derive(Deserialize)]
    struct Version {
        schema_version: u32,
    }
    let Version { schema_version: found } = serde_json::from_slice(line)?;
    if found > SCHEMA_VERSION { Err(ReadError::NewerSchema { found }) } else { Ok(()) }
}

#[derive(Deserialize)]
struct Line<'a> {
    trajectory_id: String,
    job_id: String,
    group_id: u64,
    sample_index: u32,
    task_id: String,
    environment: String,
    branch_id: u32,
    parent_branch: Option<u32>,
    agent_id: u32,
    seed: Option<u64>,
    #[serde(borrow)]
    reset_parameters: Option<&'a RawValue>,
    provenance: ProvenanceTwin,
    attempts: Vec<AttemptTwin>,
    #[serde(borrow)]
    reset: Option<ResetTwin<'a>>,
    #[serde(borrow)]
    steps: Vec<StepTwin<'a>>,
    reward: Option<Number>,
    reward_components: NamedNumbers,
    end: EndTwin,
    tokens: TokensTwin,
    generations: Vec<GeneratedTwin>,
    turns: Vec<TurnTwin>,
    #[serde(borrow)]
    messages: Option<&'a RawValue>,
    #[serde(borrow)]
    sampling: Option<&'a RawValue>,
    blobs: Vec<BlobTwin>,
    metrics: NamedNumbers,
    timing: TimingTwin,
    content_hash: String,
}

impl Line<'_> {
    fn trajectory(self, line: &Bytes) -> Result<Trajectory, ReadError> {
        let slice = |raw: Option<&RawValue>| Present(raw).slice(line);
        let generations: Vec<_> =
            self.generations.into_iter().map(GeneratedTwin::generated).collect::<Result<_, _>>()?;
        check_prompts(&generations)?;
        Ok(Trajectory {
            trajectory_id: self.trajectory_id,
            job_id: self.job_id,
            group_id: self.group_id,
            sample_index: self.sample_index,
            task_id: self.task_id,
            environment: self.environment,
            branch_id: self.branch_id,
            parent_branch: self.parent_branch,
            agent_id: self.agent_id,
            seed: self.seed,
            reset_parameters: slice(self.reset_parameters),
            provenance: self.provenance.provenance(),
            attempts: self.attempts.into_iter().map(AttemptTwin::attempt).collect(),
            reset: self.reset.map(|reset| reset.observed(line)).transpose()?,
            steps: self.steps.into_iter().map(|step| step.step(line)).collect::<Result<_, _>>()?,
            reward: self.reward.map(|Number(reward)| reward),
            reward_components: self.reward_components.0,
            end: self.end.end().map_err(unknown("end"))?,
            tokens: self.tokens.tokens(),
            generations,
            turns: self.turns.into_iter().map(TurnTwin::turn).collect(),
            messages: slice(self.messages),
            sampling: slice(self.sampling),
            blobs: self.blobs.into_iter().map(BlobTwin::blob).collect::<Result<_, _>>()?,
            metrics: self.metrics.0,
            timing: self.timing.timing(),
            content_hash: hash(self.content_hash)?,
        })
    }
}

pub(super) fn unknown(field: &'static str) -> impl Fn(String) -> ReadError {
    move |value| ReadError::UnknownValue { field, value }
}

fn hash(text: String) -> Result<ContentHash, ReadError> {
    let mut bytes = [0; 16];
    let digits = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    for (index, byte) in bytes.iter_mut().enumerate().filter(|_| digits) {
        *byte = u8::from_str_radix(&text[2 * index..2 * index + 2], 16).unwrap_or_default();
    }
    if digits { Ok(ContentHash(bytes)) } else { Err(unknown("content_hash")(text)) }
}

#[derive(Deserialize)]
struct ProvenanceTwin {
    server: String,
    session_id: String,
    episode_in_session: u32,
    environment_fingerprint: String,
}

impl ProvenanceTwin {
    fn provenance(self) -> Provenance {
        let Self { server, session_id, episode_in_session, environment_fingerprint } = self;
        Provenance { server, session_id, episode_in_session, environment_fingerprint }
    }
}

#[derive(Deserialize)]
struct AttemptTwin {
    server: String,
    started_us: u64,
    ended_us: u64,
    steps: u32,
    cause: String,
    message: String,
}

impl AttemptTwin {
    fn attempt(self) -> Attempt {
        let Self { server, started_us, ended_us, steps, cause, message } = self;
        Attempt { server, started_us, ended_us, steps, cause, message }
    }
}

#[derive(Deserialize)]
struct ResetTwin<'a> {
    #[serde(borrow, default)]
    observation: Present<'a>,
    #[serde(borrow, default)]
    reward: Present<'a>,
    #[serde(default)]
    reward_missing: bool,
    #[serde(borrow, default)]
    metadata: Present<'a>,
    ended: Option<String>,
}

impl ResetTwin<'_> {
    fn observed(self, line: &Bytes) -> Result<Observed, ReadError> {
        let reward = if self.reward_missing { Bytes::new() } else { self.reward.slice(line) };
        let ended = self.ended.map(|text| Ended::from_name(&text).ok_or(text)).transpose();
        Ok(Observed {
            observation: self.observation.slice(line).into(),
            reward: Reward::from_raw(reward),
            metadata: self.metadata.slice(line),
            ended: ended.map_err(unknown("ended"))?,
        })
    }
}

#[derive(Deserialize)]
struct StepTwin<'a> {
    #[serde(borrow, default)]
    action: Present<'a>,
    #[serde(borrow, default)]
    observation: Present<'a>,
    #[serde(borrow, default)]
    reward: Present<'a>,
    #[serde(default)]
    reward_missing: bool,
    #[serde(borrow, default)]
    metadata: Present<'a>,
    ended: Option<String>,
    environment_us: u32,
    policy_us: u32,
}

impl StepTwin<'_> {
    fn step(self, line: &Bytes) -> Result<Step, ReadError> {
        let Self { action, observation, reward, reward_missing, metadata, ended, .. } = self;
        let observed = ResetTwin { observation, reward, reward_missing, metadata, ended };
        Ok(Step {
            action: action.slice(line),
            observed: observed.observed(line)?,
            environment_us: self.environment_us,
            policy_us: self.policy_us,
        })
    }
}

#[derive(Deserialize)]
struct TokensTwin {
    token_ids: Vec<u32>,
    prompt_len: u32,
    loss_mask: Vec<u8>,
    logprobs: Vec<SmallNumber>,
    policy_versions: Vec<VersionsTwin>,
}

impl TokensTwin {
    fn tokens(self) -> Tokens {
        Tokens {
            token_ids: self.token_ids,
            prompt_len: self.prompt_len,
            loss_mask: self.loss_mask,
            logprobs: self.logprobs.into_iter().map(|SmallNumber(value)| value).collect(),
            policy_versions: self.policy_versions.into_iter().map(VersionsTwin::span).collect(),
        }
    }
}

#[derive(Deserialize)]
struct GeneratedTwin {
    prompt_token_ids: Vec<u32>,
    token_ids: Vec<u32>,
    logprobs: Vec<SmallNumber>,
    loss_mask: Vec<u8>,
    policy_versions: Vec<VersionsTwin>,
    parent: Option<u32>,
    kind: String,
    // What version 1 did not say yet.
    #[serde(default)]
    prompt_shared: u32,
    step: Option<u32>,
    #[serde(default)]
    finish_reason: String,
    #[serde(default)]
    tool: String,
    #[serde(default)]
    generation_us: u64,
    #[serde(default)]
    queue_us: u64,
}

impl GeneratedTwin {
    fn generated(self) -> Result<Generated, ReadError> {
        let kind = GeneratedKind::from_name(&self.kind).ok_or(self.kind);
        Ok(Generated {
            prompt_token_ids: self.prompt_token_ids,
            token_ids: self.token_ids,
            logprobs: self.logprobs.into_iter().map(|SmallNumber(value)| value).collect(),
            loss_mask: self.loss_mask,
            policy_versions: self.policy_versions.into_iter().map(VersionsTwin::span).collect(),
            parent: self.parent,
            kind: kind.map_err(unknown("generations.kind"))?,
            prompt_shared: self.prompt_shared,
            step: self.step,
            finish_reason: self.finish_reason,
            tool: self.tool,
            generation_us: self.generation_us,
            queue_us: self.queue_us,
        })
    }
}

#[derive(Deserialize)]
struct VersionsTwin {
    version: u64,
    tokens: u32,
}

impl VersionsTwin {
    const fn span(self) -> VersionSpan {
        VersionSpan { version: PolicyVersion(self.version), tokens: self.tokens }
    }
}

#[derive(Deserialize)]
struct TurnTwin {
    role: String,
    start: u32,
    end: u32,
    tool: String,
    finish_reason: String,
    generation_us: u64,
    environment_us: u64,
    queue_us: u64,
}

impl TurnTwin {
    fn turn(self) -> TurnSpan {
        let Self { role, start, end, tool, finish_reason, .. } = self;
        let Self { generation_us, environment_us, queue_us, .. } = self;
        TurnSpan { role, start, end, tool, finish_reason, generation_us, environment_us, queue_us }
    }
}

#[derive(Deserialize)]
struct BlobTwin {
    name: String,
    dtype: String,
    shape: Vec<u64>,
    data: String,
}

impl BlobTwin {
    fn blob(self) -> Result<Blob, ReadError> {
        let Self { name, dtype, shape, data } = self;
        match base64::engine::general_purpose::STANDARD.decode(&data) {
            Ok(data) => Ok(Blob { name, dtype, shape, data: data.into() }),
            Err(error) => Err(unknown("blobs.data")(format!("{name}: {error}"))),
        }
    }
}

#[derive(Deserialize)]
struct TimingTwin {
    run_started_unix_us: u64,
    started_us: u64,
    reset_us: u64,
    ended_us: u64,
    policy_version_started: u64,
    policy_version_ended: u64,
}

impl TimingTwin {
    const fn timing(self) -> Timing {
        Timing {
            run_started_unix_us: self.run_started_unix_us,
            started_us: self.started_us,
            reset_us: self.reset_us,
            ended_us: self.ended_us,
            policy_version_started: PolicyVersion(self.policy_version_started),
            policy_version_ended: PolicyVersion(self.policy_version_ended),
        }
    }
}
