//! Batches of columns.
//!
//! Budget: a row of an id, a kind and a text of 64 bytes, written on one side and read as bytes of its
//! own on the other, costs 40 ns; a batch costs one allocation for each ragged column that is read, and
//! no system call. `examples/throughput.rs` measures it.

mod overflow;
mod ragged;
mod reader;
mod writer;

pub use overflow::{OverflowColumn, OverflowMessage};
pub use ragged::RaggedRows;
pub use reader::{Batch, ColumnsReader};
pub use writer::{BatchMut, ColumnsWriter, Published};
