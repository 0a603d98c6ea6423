//! The record of an episode: one schema for every trainer, and what identifies its content.

mod end;
mod hash;
mod json;
mod trajectory;

pub use end::{Cancellation, End, Truncation};
pub use hash::{ContentHash, content_hash};
pub use json::{ReadError, read_json_line, write_json_line};
pub use trajectory::{
    Attempt, Blob, Provenance, SCHEMA_VERSION, Step, Timing, Tokens, Trajectory, TurnSpan,
};
