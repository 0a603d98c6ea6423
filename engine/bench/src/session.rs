//! One session of a load.

use bytes::Bytes;
use envmill_protocol::Generation;

/// What a session is at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum State {
    /// It was not asked for yet.
    #[default]
    Unasked,
    /// Its transport is being made.
    Opening,
    /// The answer to its first reset is awaited.
    FirstReset,
    /// It was admitted and has nothing to do: the others are being opened, or no step is due.
    Idle,
    /// Its answer came, and its next request is not sent yet.
    Turn(Next),
    /// The answer to a step is awaited.
    Stepping,
    /// The answer to a reset is awaited.
    Resetting,
    /// Its close is awaited.
    Closing,
    /// It is gone.
    Gone,
}

/// A request that is about to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// The first reset.
    FirstReset,
    /// A step.
    Step,
    /// A reset.
    Reset,
}

impl State {
    /// Whether the session holds a place on its server, as far as is known.
    pub(crate) const fn is_admitted(self) -> bool {
        matches!(
            self,
            Self::Idle | Self::Turn(Next::Step | Next::Reset) | Self::Stepping | Self::Resetting
        )
    }

    /// Whether the first reply is awaited.
    pub(crate) const fn is_opening(self) -> bool {
        matches!(self, Self::Opening | Self::FirstReset | Self::Turn(Next::FirstReset))
    }

    /// Whether an answer to a step or a later reset is awaited.
    pub(crate) const fn is_waiting(self) -> bool {
        matches!(self, Self::Stepping | Self::Resetting)
    }
}

/// One session. Times are nanoseconds from the load's origin.
#[derive(Debug, Default)]
pub(crate) struct Session {
    pub(crate) state: State,
    pub(crate) generation: Generation,
    /// When it came to this state.
    pub(crate) since: u64,
    /// When it was asked for.
    pub(crate) asked_at: u64,
    /// When the request under way was sent.
    pub(crate) sent_at: u64,
    /// When its step was due, in an open loop.
    pub(crate) due_at: u64,
    /// The episode's number, and its steps so far.
    pub(crate) episode: u64,
    pub(crate) step: u32,
    pub(crate) seed: u64,
    /// Failures on end that it outlived.
    pub(crate) failures: u32,
    /// The action of its next step.
    pub(crate) action: Bytes,
}
