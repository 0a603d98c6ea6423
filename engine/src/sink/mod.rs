//! Where finished episodes go.
//!
//! Start at [`Sink`], the seam. [`JsonLines`] writes them into the [`OutputDirectory`] of a run;
//! [`GroupLines`] puts the records of groups beside them.

mod directory;
mod error;
mod group_lines;
mod json_lines;
mod queue;
mod seam;

pub use directory::{DirectoryError, OutputDirectory};
pub use error::SinkError;
pub use group_lines::GroupLines;
pub use json_lines::JsonLines;
pub use seam::Sink;
