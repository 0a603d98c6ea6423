//! Where finished episodes go.
//!
//! Start at [`Sink`], the seam. [`JsonLines`] writes them into the [`OutputDirectory`] of a run.

mod directory;
mod error;
mod json_lines;
mod queue;
mod seam;

pub use directory::{DirectoryError, OutputDirectory};
pub use error::SinkError;
pub use json_lines::JsonLines;
pub use seam::Sink;
