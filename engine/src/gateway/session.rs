//! A session of a server in the pool.

use envmill_core::{Standing, Time};
use envmill_protocol::{Generation, Phase, Request, ServerId, Slot};

/// A slot of the worker behind.
#[derive(Debug, Default)]
pub(super) struct Session {
    pub(super) server: ServerId,
    /// Of its last command.
    pub(super) generation: Generation,
    pub(super) standing: Standing,
    pub(super) link: Link,
    /// Whose it is; nobody's while it is idle, closing or free.
    pub(super) seat: Option<Slot>,
    pub(super) opened_at: Time,
    pub(super) sent_at: Time,
    /// The first request of its client, which another session may get if this one proves to be none.
    pub(super) first: Option<Asking>,
    /// Resets so far.
    pub(super) played: u32,
    /// Something went wrong on it: no other client gets it.
    pub(super) is_spoilt: bool,
    /// It is being closed in mid-command.
    pub(super) is_abandoned: bool,
}

/// A request and since when it waits.
#[derive(Clone, Debug)]
pub(super) struct Asking {
    pub(super) request: Request,
    pub(super) since: Time,
}

/// What is under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Link {
    /// It does not exist.
    #[default]
    Free,
    /// The connection is being made.
    Connecting,
    /// A request is out.
    Asked(Phase),
    /// Nothing.
    Ready,
    /// Its end.
    Closing,
}

impl Link {
    /// What is waited for, where that has a deadline.
    pub(super) const fn phase(self) -> Option<Phase> {
        match self {
            Self::Connecting => Some(Phase::Connect),
            Self::Asked(phase) => Some(phase),
            Self::Free | Self::Ready | Self::Closing => None,
        }
    }
}
