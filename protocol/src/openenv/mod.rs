//! OpenEnv's wire protocol over WebSocket: pure functions from bytes to bytes, for both sides.
//!
//! One text frame is one message, and a session has one request outstanding at a time: the protocol
//! has no correlation id, and the answers to a reset and to a step look alike. What the engine sends
//! goes through [`encode`], what it receives through [`Decoder`] with what it [`Expect`]s; a server
//! uses [`server`]. Only the envelope is parsed. Actions, observations, rewards and metadata stay
//! the text they are: spliced into a frame on the way out, slices of the frame on the way in.
//!
//! `done` lives here and nowhere else: OpenEnv has one flag for a natural end and for a limit, and
//! [`Ended`](crate::Ended) says how it is told apart.
//!
//! Deliberately absent: sockets, WebSocket framing, time, retries and HTTP.

mod client;
mod code;
pub mod server;
pub mod tasks;

pub use client::{
    CallId, Decoder, Expect, FieldPath, FieldPathError, HarnessFrame, HarnessTurn, Reply, ToolStep,
    call_result, close_failure, decode_harness, encode, encode_into, encode_message_into,
    tool_result,
};
pub use code::ErrorCode;
