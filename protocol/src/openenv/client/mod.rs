//! The client's side: requests out, replies in.

mod close;
mod decode;
mod encode;
mod error_frame;
mod field_path;
mod frame;
mod harness;
mod rpc;
mod tool_step;

pub use close::close_failure;
pub use decode::{Decoder, Expect, Reply};
pub use encode::{encode, encode_into};
pub use field_path::{FieldPath, FieldPathError};
pub use harness::{HarnessFrame, HarnessTurn, decode_harness, encode_message_into};
pub use rpc::{CallId, call_result, tool_result};
pub use tool_step::ToolStep;
