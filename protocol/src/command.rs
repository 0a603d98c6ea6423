//! What the engine asks of a worker.

use bytes::Bytes;

use crate::{Generation, ServerId, Slot};

/// One request to one session: plain data, so that a batch of them can cross a thread, a network or
/// shared memory.
///
/// A slot has at most one command outstanding. The one exception is [`Request::Close`], which may
/// overtake the command before it; that command is then never answered.
#[derive(Clone, Debug, PartialEq)]
pub struct Command {
    /// The session's place.
    pub slot: Slot,
    /// Counts this slot's commands; echoed by the event that answers this one.
    pub generation: Generation,
    /// What to do.
    pub request: Request,
}

/// What a [`Command`] asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// Make a session on a server. Answered by [`Outcome::Opened`](crate::Outcome::Opened) once the
    /// transport stands, which for OpenEnv does not yet mean that the session was admitted: that is
    /// known at the answer to the first reset.
    Open {
        /// Where.
        server: ServerId,
    },
    /// Begin an episode. Answered by [`Outcome::Reset`](crate::Outcome::Reset).
    Reset {
        /// The reset parameters: the text of one JSON object, or empty for none. A seed and an
        /// episode id, where there are such, are keys of this object.
        parameters: Bytes,
    },
    /// Take one action. Answered by [`Outcome::Stepped`](crate::Outcome::Stepped).
    Step {
        /// The action: the text of one JSON object.
        action: Bytes,
    },
    /// Read the environment's state. Answered by [`Outcome::State`](crate::Outcome::State).
    State,
    /// Call a tool. Answered by [`Outcome::ToolResult`](crate::Outcome::ToolResult).
    ToolCall {
        /// A JSON-RPC 2.0 request: the text of one JSON object. Methods that begin with `envmill/`
        /// are Envmill's own, see [`openenv::tasks`](crate::openenv::tasks).
        request: Bytes,
    },
    /// End the session and free its slot. Always answered by
    /// [`Outcome::Closed`](crate::Outcome::Closed), also when there is no session any more. If
    /// a command is outstanding it is abandoned: the transport is cut at once, since a late answer
    /// could otherwise be taken for the next one's.
    Close,
}

impl Request {
    /// The name of this kind of request, as it stands in logs and metrics.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Open { .. } => "open",
            Self::Reset { .. } => "reset",
            Self::Step { .. } => "step",
            Self::State => "state",
            Self::ToolCall { .. } => "tool_call",
            Self::Close => "close",
        }
    }
}
