//! The server's side: messages in, frames out, as the reference server would.
//!
//! Start at [`decode_message`]. A server answers its error with [`encode_error`], and closes with
//! code 1000 where [`ServerError::closes`] says so.

mod decode;
mod encode;
mod error;

pub use decode::{ClientMessage, VIOLATIONS_MAX, decode_message};
pub use encode::{encode_error, encode_mcp, encode_observation, encode_state};
pub use error::{ServerError, Violation};
