//! How an episode ended. There is one end for each requested episode, and no episode without one.

use std::time::Duration;

use bytes::Bytes;

use crate::{Failure, FailureKind, SessionFate};

/// How an episode ended.
#[derive(Clone, Debug, PartialEq)]
pub enum End {
    /// The environment said that it is over.
    Completed {
        /// Whether the environment's word for it could tell a natural end from a limit. `false`
        /// reads `terminated (unmapped)` in the record: OpenEnv has one flag for both.
        mapped: bool,
    },
    /// It was cut short by a limit, and what was played counts.
    Truncated(Truncation),
    /// Every attempt at it failed; the last one's failure.
    Failed(Failure),
    /// It was given up before its end, by someone's wish.
    Cancelled(Cancellation),
    /// It was played, but on policy versions older than the job accepts.
    Stale,
    /// It was played and scored, and then filtered out with its group; the filter's name.
    Filtered(String),
}

impl End {
    /// The end that a record says in words: its [`name`](Self::name), its [`cause`](Self::cause) and,
    /// for a failure, the rest. `None` if this version does not know the words.
    #[must_use]
    pub fn from_words(
        name: &str,
        cause: &str,
        message: String,
        session_lost: bool,
        retry_after: Option<Duration>,
    ) -> Option<Self> {
        match (name, cause) {
            ("completed", "terminated") => Some(Self::Completed { mapped: true }),
            ("completed", "terminated (unmapped)") => Some(Self::Completed { mapped: false }),
            ("truncated", _) => Truncation::from_name(cause).map(Self::Truncated),
            ("failed", _) => FailureKind::from_name(cause).map(|kind| {
                Self::Failed(Failure {
                    kind,
                    session: if session_lost { SessionFate::Lost } else { SessionFate::Kept },
                    message,
                    retry_after,
                    details: Bytes::new(),
                })
            }),
            ("cancelled", _) => Cancellation::from_name(cause).map(Self::Cancelled),
            ("stale", _) => Some(Self::Stale),
            ("filtered", _) => Some(Self::Filtered(cause.to_owned())),
            _ => None,
        }
    }

    /// The kind of end as one stable word: `completed`, `truncated`, `failed`, `cancelled`,
    /// `stale` or `filtered`.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Completed { .. } => "completed",
            Self::Truncated(_) => "truncated",
            Self::Failed(_) => "failed",
            Self::Cancelled(_) => "cancelled",
            Self::Stale => "stale",
            Self::Filtered(_) => "filtered",
        }
    }

    /// Why, as one stable word or phrase.
    #[must_use]
    pub fn cause(&self) -> String {
        match self {
            Self::Completed { mapped: true } => "terminated".into(),
            Self::Completed { mapped: false } => "terminated (unmapped)".into(),
            Self::Truncated(why) => why.name().into(),
            Self::Failed(failure) => failure.kind.name(),
            Self::Cancelled(why) => why.name().into(),
            Self::Stale => "stale".into(),
            Self::Filtered(filter) => filter.clone(),
        }
    }
}

/// What cut an episode short.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Truncation {
    /// A limit inside the environment.
    Environment,
    /// The job's limit on steps.
    MaxSteps,
    /// The engine's limit on the memory of episodes under way, of which this was one of the largest.
    MaxBytes,
    /// The job's limit on the memory that one episode may take.
    EpisodeBytes,
    /// The job's limit on an episode's time.
    EpisodeDeadline,
    /// The environment raised an exception, and the job counts what was played before it.
    EnvironmentError,
    /// The agent's limit on tokens, or the model's context, is used up.
    MaxTokens,
    /// What the language model said was no action, more often than the agent asks again.
    Malformed,
}

impl Truncation {
    /// Every cause.
    pub const ALL: [Self; 8] = [
        Self::Environment,
        Self::MaxSteps,
        Self::MaxBytes,
        Self::EpisodeBytes,
        Self::EpisodeDeadline,
        Self::EnvironmentError,
        Self::MaxTokens,
        Self::Malformed,
    ];

    /// The cause that [`name`](Self::name) calls so, if there is one.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|cause| cause.name() == name)
    }

    /// The name in records and summaries.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Environment => "environment",
            Self::MaxSteps => "max_steps",
            Self::MaxBytes => "max_bytes",
            Self::EpisodeBytes => "episode_bytes",
            Self::EpisodeDeadline => "episode_deadline",
            Self::EnvironmentError => "environment_error",
            Self::MaxTokens => "max_tokens",
            Self::Malformed => "malformed",
        }
    }
}

/// Who gave an episode up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cancellation {
    /// The job was drained before the episode started.
    Drained,
    /// The job was cancelled while the episode was under way.
    Cancelled,
    /// The job's deadline passed.
    JobDeadline,
    /// The job stopped by its own rule (a changed environment, a sink that cannot write).
    Stopped,
    /// Its group had as many members as it needs.
    Cut,
    /// Its group's deadline passed.
    GroupDeadline,
    /// The policy went on to a version for which it had begun on too old a one.
    Stale,
}

impl Cancellation {
    /// Every cause.
    pub const ALL: [Self; 7] = [
        Self::Drained,
        Self::Cancelled,
        Self::JobDeadline,
        Self::Stopped,
        Self::Cut,
        Self::GroupDeadline,
        Self::Stale,
    ];

    /// The cause that [`name`](Self::name) calls so, if there is one.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|cause| cause.name() == name)
    }

    /// The name in records and summaries.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Drained => "drained",
            Self::Cancelled => "cancelled",
            Self::JobDeadline => "job_deadline",
            Self::Stopped => "stopped",
            Self::Cut => "cut",
            Self::GroupDeadline => "group_deadline",
            Self::Stale => "stale",
        }
    }
}
