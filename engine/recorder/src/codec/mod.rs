//! The form of values: by hand, fields in order, little-endian, lengths before what they measure.
//!
//! Every struct and enum is listed once, field by field, in `core.rs`, `protocol.rs` or `record.rs`. The
//! lists are exhaustive: a field or a variant that is missing from them does not compile, and one
//! that is added to them changes [`VERSION`](crate::VERSION).

mod core;
mod lists;
mod primitives;
mod protocol;
mod record;
mod source;

pub(crate) use source::{Malformed, Source};

/// Appends a value.
pub(crate) trait Encode {
    fn encode(&self, out: &mut Vec<u8>);
}

/// Reads a value. Whatever the bytes are, nothing panics, and nothing larger is allocated than the
/// bytes that are there.
pub(crate) trait Decode: Sized {
    /// The fewest bytes that a value takes: bounds how many fit into what is left.
    const BYTES_MIN: usize = 1;

    fn decode(from: &mut Source) -> Result<Self, Malformed>;
}
