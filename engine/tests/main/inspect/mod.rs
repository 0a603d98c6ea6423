//! `envmill inspect`, on what real runs have left.

mod conversion;
mod drift;
mod looking;

use std::path::Path;

use envmill_testing::{EnvmillCommand, Finished};
use serde_json::Value;

use crate::rig::ENVMILL;

/// Three lines that `openenv collect` (0.10.0) has written.
const COLLECTED: &str = include_str!("collected.jsonl");
/// The record of `docs/record.md`: two steps by a language model.
const CONVERSATION: &str = include_str!("../../../inspect/src/testing/conversation.jsonl");

/// `envmill inspect` on `path`, with arguments that have spaces between them.
fn inspect(path: impl AsRef<Path>, words: &str) -> Finished {
    inspect_with(path, words.split_whitespace())
}

fn inspect_with<'a>(path: impl AsRef<Path>, words: impl IntoIterator<Item = &'a str>) -> Finished {
    EnvmillCommand::new(ENVMILL).arg("inspect").arg(path.as_ref()).args(words).run().unwrap()
}

/// Its JSON object, where it ends with `code`.
fn told(path: impl AsRef<Path>, words: &str, code: i32) -> Value {
    let finished = inspect(path, &format!("--json {words}"));
    assert_eq!(finished.code(), Some(code), "{finished:?}");
    finished.summary().unwrap()
}

/// Plays a job that must not fail.
fn play(out: &Path, words: &str) {
    let finished = crate::plain::envmill(out).args(words.split_whitespace()).run().unwrap();
    assert_eq!(finished.code(), Some(0), "{finished:?}");
}
