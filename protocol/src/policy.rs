//! The policy seam's data: a turn asks for an action, a decision answers it.
//!
//! Batches of [`Turn`] go to a policy and batches of [`Decision`] come back, in any order and at any
//! time. A built-in policy, a remote trainer and an agent around a language model all sit behind
//! these two types.

use std::sync::Arc;

use bytes::Bytes;

use crate::{EpisodeIndex, Generation, JobId, Observed, PolicyVersion, Slot, record::Truncation};

/// A request for one action: an environment showed something and waits.
#[derive(Clone, Debug, PartialEq)]
pub struct Turn {
    /// The session that waits.
    pub slot: Slot,
    /// Names this turn together with `slot`; the decision must echo it.
    pub generation: Generation,
    /// The job the episode belongs to.
    pub job: JobId,
    /// The episode within the job.
    pub episode: EpisodeIndex,
    /// The episode's own seed, the same for each attempt at it. What a policy draws at random must
    /// come from this and `step` alone, so that an attempt can be repeated.
    pub seed: u64,
    /// Steps taken so far in this episode.
    pub step: u32,
    /// Which environment of the configuration this is, from 0; names the action schema.
    pub environment: u32,
    /// What the environment showed last.
    pub observed: Observed,
    /// What the episode was begun with, in the first turn of each attempt.
    pub start: Option<Arc<EpisodeStart>>,
}

/// What an episode was begun with, the same for each attempt at it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EpisodeStart {
    /// The task's name; empty where there is none.
    pub task_id: String,
    /// The reset parameters as sent: the text of one JSON object, or empty for none.
    pub reset_parameters: Bytes,
}

impl Turn {
    /// The answer to this turn by a policy that is no language model: an action, or why there is none.
    #[must_use]
    pub const fn decided(&self, action: Result<Bytes, PolicyError>) -> Decision {
        let Self { slot, generation, .. } = *self;
        let spoken = Spoken { messages: Bytes::new(), sampling: Bytes::new() };
        Decision { slot, generation, action, generations: Vec::new(), spoken }
    }
}

/// The answer to a [`Turn`].
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// The session.
    pub slot: Slot,
    /// The turn's generation. A decision with another one is too late and is ignored.
    pub generation: Generation,
    /// The action (the text of one JSON object), or why there is none.
    pub action: Result<Bytes, PolicyError>,
    /// What the policy generated to come to this action; empty where it is no language model.
    pub generations: Vec<Generated>,
    /// What it adds to the episode's messages; nothing where these are not kept.
    pub spoken: Spoken,
}

/// What a decision tells of the conversation behind it, beside tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spoken {
    /// The messages since the decision before: texts of JSON objects, with commas between. Empty for none.
    pub messages: Bytes,
    /// The sampling parameters in force: the text of one JSON object, or empty where they are not told.
    pub sampling: Bytes,
}

/// Why a policy has no action for a turn. The episode fails with this as its cause, or is cut here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the policy has no action: {message}")]
pub struct PolicyError {
    /// What went wrong and what the reader can do.
    pub message: String,
    /// The episode is truncated for this reason, and what was played counts. `None`: it fails.
    pub truncates: Option<Truncation>,
}

impl PolicyError {
    /// The episode fails for this reason.
    #[must_use]
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), truncates: None }
    }

    /// The episode ends here, and what was played counts.
    #[must_use]
    pub fn truncated(why: Truncation, message: impl Into<String>) -> Self {
        Self { message: message.into(), truncates: Some(why) }
    }
}

/// One call of a language model: token ids in, token ids out, as the inference engine counted them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Generated {
    /// The prompt as token ids, but for its first `prompt_shared`.
    pub prompt_token_ids: Vec<u32>,
    /// So many of the prompt's first ids are those of an earlier generation's prompt and sampled ids: of
    /// the one that `parent` names, or, where it names none, of the one before this. 0: the prompt is
    /// whole. [`whole_prompt`](crate::record::whole_prompt) puts it together.
    pub prompt_shared: u32,
    /// The sampled token ids.
    pub token_ids: Vec<u32>,
    /// The log-probability (natural logarithm) of each sampled token; as long as `token_ids`, or
    /// empty where unknown.
    pub logprobs: Vec<f32>,
    /// 1 where a sampled token is to be trained on; as long as `token_ids`.
    pub loss_mask: Vec<u8>,
    /// Which policy version sampled which tokens, in order, covering `token_ids`.
    pub policy_versions: Vec<VersionSpan>,
    /// The index, within the episode, of the generation that this one's prompt continues.
    pub parent: Option<u32>,
    /// What part this generation plays in the episode.
    pub kind: GeneratedKind,
    /// The index of the step that its action became, or that its turn was to become where it led to no
    /// action. `None` where that is unknown, as in a harness's call.
    pub step: Option<u32>,
    /// Why it stopped, as the inference engine said (`stop`, `length`); empty where unknown.
    pub finish_reason: String,
    /// The tool that it called; of several, their names with commas between. Empty for none.
    pub tool: String,
    /// Microseconds in the inference engine, waiting there included unless `queue_us` has it; 0 where
    /// unknown.
    pub generation_us: u64,
    /// Microseconds of waiting for the inference engine; 0 where unknown.
    pub queue_us: u64,
}

impl Generated {
    /// Ids of its prompt, shared ones included.
    #[must_use]
    pub const fn prompt_len(&self) -> usize {
        self.prompt_shared as usize + self.prompt_token_ids.len()
    }

    /// Ids of its prompt and of what was sampled.
    #[must_use]
    pub const fn length(&self) -> usize {
        self.prompt_len() + self.token_ids.len()
    }

    /// Whether it is known what was sampled. One without tokens and without a prompt says which version
    /// decided and nothing else; one without tokens for a prompt has sampled nothing.
    #[must_use]
    pub const fn is_known(&self) -> bool {
        !self.token_ids.is_empty() || self.prompt_len() > 0
    }

    /// Bytes that it takes in memory, its arrays included.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let arrays = size_of_val(&self.prompt_token_ids[..])
            + size_of_val(&self.token_ids[..])
            + size_of_val(&self.logprobs[..])
            + size_of_val(&self.loss_mask[..])
            + size_of_val(&self.policy_versions[..])
            + self.finish_reason.len()
            + self.tool.len();
        (size_of::<Self>() + arrays) as u64
    }
}

/// A run of tokens sampled by one policy version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VersionSpan {
    /// The version.
    pub version: PolicyVersion,
    /// How many tokens.
    pub tokens: u32,
}

impl VersionSpan {
    /// Adds so many tokens to runs of versions: to the last run, if it is of the same version.
    pub fn add(runs: &mut Vec<Self>, version: PolicyVersion, tokens: u32) {
        match runs.last_mut() {
            Some(last) if last.version == version => {
                last.tokens = last.tokens.saturating_add(tokens);
            }
            _ if tokens == 0 => {}
            _ => runs.push(Self { version, tokens }),
        }
    }
}

/// What part a generation plays in its episode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum GeneratedKind {
    /// The agent's own turn: it led to the action.
    #[default]
    Agent,
    /// A side call (a summary, a judge) whose tokens are no part of the conversation.
    Auxiliary,
    /// Generated and thrown away (an unparsable action that was asked for again).
    Discarded,
}

impl GeneratedKind {
    /// Every part.
    pub const ALL: [Self; 3] = [Self::Agent, Self::Auxiliary, Self::Discarded];

    /// The word for it in records.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Auxiliary => "auxiliary",
            Self::Discarded => "discarded",
        }
    }

    /// What [`name`](Self::name) calls so, if anything.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}
