//! What an environment shows after a reset or a step.

use bytes::Bytes;

/// The answer of an environment to a reset or a step. All texts are slices of the frame they
/// arrived in: nothing is copied and nothing but the envelope has been parsed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observed {
    /// The observation: the text of one JSON value.
    pub observation: Bytes,
    /// The reward, as a number and as received.
    pub reward: Reward,
    /// The environment's metadata about this answer: the text of one JSON value, or empty where
    /// none was sent.
    pub metadata: Bytes,
    /// Whether the episode is over, and how; `None` while it goes on.
    pub ended: Option<Ended>,
}

/// A reward with both of its faces: the number that trainers use, and the text that was received.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reward {
    /// The number; `None` where the reward is missing, `null` or no number at all. Missing is not
    /// zero. `true` is 1 and `false` is 0; integers beyond 2^53 are rounded; never NaN.
    pub value: Option<f64>,
    /// The JSON text as received; empty where the key was missing.
    pub raw: Bytes,
}

/// How an environment said that an episode is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ended {
    /// It reached an end of its own.
    Terminated,
    /// It ended, and nothing says whether by itself or by a limit: OpenEnv's protocol has one flag
    /// for both, and no mapping was configured or found.
    TerminatedUnmapped,
    /// It was cut short by a limit inside the environment.
    Truncated,
}
