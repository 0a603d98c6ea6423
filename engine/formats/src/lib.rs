//! Trajectory records in columns: Arrow IPC streams and Parquet files.
//!
//! Start at [`StreamWriter`] and [`StreamReader`] (records as they are played, in batches that each
//! stand for themselves), then [`write_parquet`] and [`ParquetReader`] (all of them, once a run is
//! over). Both have one schema, [`schema`], which `docs/record.md` describes; [`encode`] and
//! [`decode`] are the way from records to a batch and back. [`parquet_rows`] reads any Parquet file
//! as rows of JSON.
//!
//! Deliberately absent: threads, files' names and when to write, which are the engine's; and Arrow's
//! computing and casting crates, which nothing here needs.

mod columns;
mod decode;
mod encode;
mod error;
mod parquet;
mod stream;

pub use decode::decode;
pub use encode::{SCHEMA_VERSION_KEY, encode, schema};
pub use error::FormatError;
pub use parquet::{ParquetReader, parquet_rows, write_parquet};
pub use stream::{StreamReader, StreamWriter};
