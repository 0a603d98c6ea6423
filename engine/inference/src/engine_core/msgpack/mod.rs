//! Just enough MessagePack: a reader that borrows, and a writer that appends.
//!
//! The messages of an inference engine come once a step and carry three small arrays a token. Building a
//! tree of values from them costs more than all else this channel does, so they are read in place.

mod read;
mod write;

pub(super) use read::{Malformed, Reader};
pub(super) use write::{array, bool, float, map, nil, str, uint};
