//! A trajectory as one line of JSON. `docs/record.md` describes the form, field by field.
//!
//! The writer appends text directly: it runs once an episode on the engine's own threads, and most
//! of a record is JSON already (actions, observations, metadata), which is checked and spliced in.
//! The reader goes through private twins of the record's types, so that a change of a type is never
//! silently a change of the format.

mod end;
mod read;
mod values;
mod write;

pub use read::{ReadError, read_json_line};
pub use write::write_json_line;
