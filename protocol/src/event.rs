//! What a worker answers.

use bytes::Bytes;

use crate::{Failure, Generation, Observed, Slot};

/// The answer to one [`Command`](crate::Command), or the news that a session was lost.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// The session's place.
    pub slot: Slot,
    /// The generation of the command that this answers (see [`Generation`]).
    pub generation: Generation,
    /// What happened.
    pub outcome: Outcome,
}

/// What an [`Event`] says.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The transport stands. Admission may still be refused at the first answer.
    Opened,
    /// An episode began; its first observation.
    Reset(Observed),
    /// A step was taken.
    Stepped(Observed),
    /// The environment's state: the text of one JSON value.
    State(Bytes),
    /// A tool's answer: the text of a JSON-RPC 2.0 response.
    ToolResult(Bytes),
    /// The command failed, or, when none was outstanding, the idle session was lost. Whether the
    /// session can still be used is in [`Failure::session`].
    Failed(Failure),
    /// The session is gone, as asked by [`Request::Close`](crate::Request::Close). The slot is free.
    Closed,
}
