//! The client's side: requests out, replies in.

mod close;
mod decode;
mod encode;
mod error_frame;
mod field_path;
mod frame;

pub use close::close_failure;
pub use decode::{Decoder, Expect, Reply};
pub use encode::{encode, encode_into};
pub use field_path::{FieldPath, FieldPathError};
