//! The server's side: messages in, frames out, as the reference server would.
//!
//! Start at [`decode_message`]. A server answers its error with [`encode_error`], and closes with
//! code 1000 where [`ServerError::closes`] says so. JSON-RPC requests go through [`decode_rpc`].

mod decode;
mod encode;
mod error;
mod rpc;

pub use decode::{ClientMessage, VIOLATIONS_MAX, decode_message};
pub use encode::{encode_error, encode_mcp, encode_observation, encode_state};
pub use error::{ServerError, Violation};
pub use rpc::{
    RpcCall, RpcCode, RpcId, RpcRefusal, capacity_data, decode_rpc, encode_rpc_error,
    encode_rpc_result, factory_data,
};
