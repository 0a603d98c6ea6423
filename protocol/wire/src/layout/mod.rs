//! A trajectory in memory, with its arrays in place.
//!
//! An *image* is a table of arrays (token ids, log-probabilities, the loss mask, rewards of steps,
//! blobs), the arrays, each at a multiple of 64 bytes, and the rest of the record as its message. What
//! looks at tokens does so without decoding anything or copying them. [`Plan`] makes an image of an
//! encoded [`Trajectory`](crate::Trajectory) with one copy of each byte, straight to where it is to
//! lie; [`Table`] says where an image's arrays are, and puts the record together again. The format,
//! byte by byte, is in `docs/trajectory-layout.md`.
//!
//! Deliberately absent: shared memory, and with it references to what another process may write.

mod fields;
mod format;
mod plan;
mod table;

pub use format::{ALIGN, ArrayKind, IMAGE_OFFSET, element_bytes};
pub use plan::{Plan, PlanError};
pub use table::{Array, Table, TableError};
