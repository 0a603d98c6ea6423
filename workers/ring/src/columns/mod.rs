//! Batches of columns.

mod overflow;
mod ragged;
mod reader;
mod writer;

pub use overflow::{OverflowColumn, OverflowMessage};
pub use ragged::RaggedRows;
pub use reader::{Batch, ColumnsReader};
pub use writer::{BatchMut, ColumnsWriter, Published};
