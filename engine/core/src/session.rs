//! A session: one slot on one server.

use envmill_protocol::{Generation, Phase, ServerId};

use crate::{Time, admission::Standing, episode::EpisodeKey};

/// What a slot's session is waiting for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waiting {
    /// The slot is free.
    Free,
    /// For a connection.
    Open,
    /// For the first reset's answer: the admission.
    FirstReset,
    /// For a reset's answer.
    Reset,
    /// For a step's answer.
    Step,
    /// For nothing: its episode is with the policy, or it has none.
    Nothing,
    /// For the close.
    Close,
}

impl Waiting {
    /// The phase whose deadline and retry rule apply.
    pub(crate) const fn phase(self) -> Phase {
        match self {
            Self::Open => Phase::Connect,
            Self::FirstReset => Phase::FirstReset,
            Self::Reset => Phase::Reset,
            Self::Step => Phase::Step,
            Self::Free | Self::Nothing | Self::Close => Phase::Policy,
        }
    }

    /// Whether a command is out that the environment has to answer.
    pub(crate) const fn is_request(self) -> bool {
        matches!(self, Self::Open | Self::FirstReset | Self::Reset | Self::Step)
    }
}

#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) server: ServerId,
    pub(crate) generation: Generation,
    pub(crate) waiting: Waiting,
    /// Which of the server's counts it is in.
    pub(crate) standing: Standing,
    /// Whether its last command was cut off unanswered, so that the server may still be at it.
    pub(crate) abandoned: bool,
    pub(crate) episode: Option<EpisodeKey>,
    /// Episodes begun on it.
    pub(crate) played: u32,
    /// Numbers the sessions of a run.
    pub(crate) serial: u64,
    /// When the opening began.
    pub(crate) opened_at: Time,
    /// When the command that it waits for was sent.
    pub(crate) sent_at: Time,
}

impl Session {
    pub(crate) const fn free() -> Self {
        Self {
            server: ServerId(0),
            generation: Generation(0),
            waiting: Waiting::Free,
            standing: Standing::None,
            abandoned: false,
            episode: None,
            played: 0,
            serial: 0,
            opened_at: Time::ZERO,
            sent_at: Time::ZERO,
        }
    }
}
