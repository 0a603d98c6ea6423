//! Where finished episodes go, and how they are read back.
//!
//! Start at [`Sink`], the seam. [`FileSink`] writes them into the [`OutputDirectory`] of a run, in one
//! of the [`Format`]s, and [`GroupLines`], a [`GroupSink`], puts the records of groups beside them; [`close()`] makes
//! what follows from them at the end, and [`Records`] reads them. [`training_trace()`] is a record in OpenEnv's words
//! for what a trainer takes.

mod arrow_stream;
mod close;
mod directory;
mod episode_record;
mod error;
mod file;
mod format;
mod group_lines;
mod json_lines;
mod queue;
mod read;
mod seam;
mod training_trace;

pub use close::close;
pub use directory::{Claim, DirectoryError, OutputDirectory};
pub(crate) use episode_record::write_line as write_episode_record;
pub use error::SinkError;
pub use file::FileSink;
pub use format::Format;
pub use group_lines::GroupLines;
pub(crate) use queue::weight;
pub use read::{Records, RecordsError, Why};
pub use seam::{GroupSink, Sink};
pub use training_trace::{NoTrace, training_trace};
