//! A trajectory as one line of JSON. `docs/record.md` describes the form, field by field.
//!
//! The writer appends text directly: it runs once an episode on the engine's own threads, and most
//! of a record is JSON already (actions, observations, metadata), which is checked and spliced in.
//! The reader goes through private twins of the record's types, so that a change of a type is never
//! silently a change of the format.

mod end;
mod group;
mod read;
mod values;
mod write;

pub use group::{read_group_line, write_group_line};
pub use read::{ReadError, read_json_line};
pub use write::write_json_line;

use crate::record::{FirstObservations, GroupOutcome};

/// What became of a group, as a word.
const OUTCOMES: [(GroupOutcome, &str); 3] = [
    (GroupOutcome::Complete, "complete"),
    (GroupOutcome::Short, "short"),
    (GroupOutcome::Filtered, "filtered"),
];

/// How the first observations of a group compare, as a word.
const FIRST_OBSERVATIONS: [(FirstObservations, &str); 3] = [
    (FirstObservations::Unknown, "unknown"),
    (FirstObservations::Agree, "agree"),
    (FirstObservations::Differ, "differ"),
];

/// The word for `value`.
fn word<T: PartialEq>(words: &[(T, &'static str)], value: &T) -> &'static str {
    words.iter().find(|(candidate, _)| candidate == value).map_or("", |(_, word)| word)
}

/// The value that `word` stands for.
fn meaning<T: Copy>(words: &[(T, &'static str)], word: &str) -> Option<T> {
    words.iter().find(|(_, candidate)| *candidate == word).map(|(value, _)| *value)
}
