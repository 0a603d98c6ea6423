//! The trajectory record.

use bytes::Bytes;

use crate::{
    Generated, Observed, PolicyVersion, Reward, VersionSpan,
    record::{ContentHash, End},
};

/// The version of the record's schema. Readers accept every smaller one and ignore unknown fields. Up to
/// version 1 every prompt was whole.
pub const SCHEMA_VERSION: u32 = 2;

/// The record of one episode, from request to end. Exactly one exists for every requested episode.
///
/// Texts that came from an environment are kept as received (raw JSON). Lists over tokens all have
/// the length of [`Tokens::token_ids`]; they are empty where no language model played.
#[derive(Clone, Debug, PartialEq)]
pub struct Trajectory {
    /// Unique among all trajectories of a job's life, and the same for each attempt and replay.
    pub trajectory_id: String,
    /// The job, as the requester named it.
    pub job_id: String,
    /// The group: episodes of one task. Without groups, the episode's own number.
    pub group_id: u64,
    /// The number within the group, from 0.
    pub sample_index: u32,
    /// The task, as the requester or the server's task set named it; empty where there is none.
    pub task_id: String,
    /// The environment, as the configuration names it.
    pub environment: String,
    /// The branch within the episode's tree of conversations; 0 is the first.
    pub branch_id: u32,
    /// The branch that this one forked from.
    pub parent_branch: Option<u32>,
    /// Which agent of a multi-agent environment this is; 0 where there is one.
    pub agent_id: u32,
    /// The seed given to the environment at reset, if one was: that of `reset_parameters`. Many environments drop it.
    pub seed: Option<u64>,
    /// The reset parameters as sent: the text of one JSON object, or empty for none.
    pub reset_parameters: Bytes,
    /// Where the last attempt was played.
    pub provenance: Provenance,
    /// Every attempt, in order; the last is the one recorded here. Empty if none was started.
    pub attempts: Vec<Attempt>,
    /// The answer to the reset; `None` if the episode did not get that far.
    pub reset: Option<Observed>,
    /// The steps, in order.
    pub steps: Vec<Step>,
    /// The sum of the rewards of reset and steps that are not missing; `None` if all are. Where scorers say what
    /// episodes were worth, their word, and `None` of an episode without one.
    pub reward: Option<f64>,
    /// Named parts of the reward, where a scorer gave them.
    pub reward_components: Vec<(String, f64)>,
    /// How it ended.
    pub end: End,
    /// The tokens of the agent's conversation.
    pub tokens: Tokens,
    /// Every call of a language model, in order, as the inference engine counted it.
    pub generations: Vec<Generated>,
    /// Spans of `tokens`, in order.
    pub turns: Vec<TurnSpan>,
    /// The conversation as messages: the text of one JSON array, or empty.
    pub messages: Bytes,
    /// Sampling parameters: the text of one JSON object, or empty.
    pub sampling: Bytes,
    /// Binary attachments by name (routed experts, images).
    pub blobs: Vec<Blob>,
    /// Numbers about the episode by name.
    pub metrics: Vec<(String, f64)>,
    /// When things happened.
    pub timing: Timing,
    /// Identifies the content; see [`content_hash`](crate::record::content_hash).
    pub content_hash: ContentHash,
}

impl Trajectory {
    /// A record that says nothing but its id and how it ended; its content hash is not made yet.
    #[must_use]
    pub fn bare(trajectory_id: impl Into<String>, end: End) -> Self {
        Self {
            trajectory_id: trajectory_id.into(),
            job_id: String::new(),
            group_id: 0,
            sample_index: 0,
            task_id: String::new(),
            environment: String::new(),
            branch_id: 0,
            parent_branch: None,
            agent_id: 0,
            seed: None,
            reset_parameters: Bytes::new(),
            provenance: Provenance::default(),
            attempts: Vec::new(),
            reset: None,
            steps: Vec::new(),
            reward: None,
            reward_components: Vec::new(),
            end,
            tokens: Tokens::default(),
            generations: Vec::new(),
            turns: Vec::new(),
            messages: Bytes::new(),
            sampling: Bytes::new(),
            blobs: Vec::new(),
            metrics: Vec::new(),
            timing: Timing::default(),
            content_hash: ContentHash::default(),
        }
    }
}

/// Where and on what an episode was played.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Provenance {
    /// The server's URL, or the name of a local worker; empty if the episode got none.
    pub server: String,
    /// Names the session within this engine's run.
    pub session_id: String,
    /// How many episodes the session had played before this one.
    pub episode_in_session: u32,
    /// A hash over what identifies the environment's code as far as it shows (for a server, its
    /// `/schema` and `/openapi.json`); empty where unknown.
    pub environment_fingerprint: String,
}

/// One try at an episode.
#[derive(Clone, Debug, PartialEq)]
pub struct Attempt {
    /// The server it was tried on.
    pub server: String,
    /// Microseconds from the start of the engine's run.
    pub started_us: u64,
    /// Microseconds from the start of the engine's run.
    pub ended_us: u64,
    /// Steps taken.
    pub steps: u32,
    /// Why it failed, as the failure's stable name; empty for the one that did not.
    pub cause: String,
    /// The failure's message.
    pub message: String,
}

/// An action and what it led to.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// The action as sent: the text of one JSON object.
    pub action: Bytes,
    /// What the environment answered.
    pub observed: Observed,
    /// Microseconds from the command leaving the scheduler to its answer reaching it.
    pub environment_us: u32,
    /// Microseconds from the turn being opened to its decision.
    pub policy_us: u32,
}

impl Step {
    /// The reward of this step.
    #[must_use]
    pub const fn reward(&self) -> &Reward {
        &self.observed.reward
    }

    /// Bytes that it takes in memory, texts included.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let around = size_of::<Self>() - size_of::<Observed>() + self.action.len();
        around as u64 + self.observed.bytes()
    }
}

/// The agent's conversation as tokens: a prompt of `prompt_len` tokens and all that follows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tokens {
    /// Token ids, shape `[S]`.
    pub token_ids: Vec<u32>,
    /// How many of them were there before the first sampled one.
    pub prompt_len: u32,
    /// Shape `[S]`: 1 where a token was sampled by the policy and is to be trained on.
    pub loss_mask: Vec<u8>,
    /// Shape `[S]`: natural logarithms, 0 where not sampled.
    pub logprobs: Vec<f32>,
    /// Runs over `[S]`.
    pub policy_versions: Vec<VersionSpan>,
}

/// A turn of a conversation as a span of tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct TurnSpan {
    /// Who: `assistant`, `user`, `tool`, `system`.
    pub role: String,
    /// The first token.
    pub start: u32,
    /// One past the last token.
    pub end: u32,
    /// The tool that the model calls here, or that answers here; empty for none.
    pub tool: String,
    /// Why the generation stopped, or empty.
    pub finish_reason: String,
    /// Microseconds in the inference engine.
    pub generation_us: u64,
    /// Microseconds that the environment took for what the model is told here.
    pub environment_us: u64,
    /// Microseconds of waiting for the inference engine, where known apart.
    pub queue_us: u64,
}

/// A named array of bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blob {
    /// Its name.
    pub name: String,
    /// Element type, in numpy's spelling (`int16`, `float32`).
    pub dtype: String,
    /// Its shape, row-major.
    pub shape: Vec<u64>,
    /// Little-endian data.
    pub data: Bytes,
}

/// When things happened, in microseconds from the start of the engine's run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timing {
    /// Wall-clock time at which the run started: microseconds since 1970 (UTC).
    pub run_started_unix_us: u64,
    /// The episode was taken from the queue for the first time.
    pub started_us: u64,
    /// The last attempt's first observation arrived; 0 if none did.
    pub reset_us: u64,
    /// It ended.
    pub ended_us: u64,
    /// The policy version at the start of the last attempt.
    pub policy_version_started: PolicyVersion,
    /// The policy version at the end.
    pub policy_version_ended: PolicyVersion,
}
