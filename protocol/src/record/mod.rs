//! The record of an episode: one schema for every trainer, and what identifies its content. And the
//! record of a group of them.

mod call;
mod conversation;
mod end;
mod group;
mod hash;
mod json;
mod prompts;
mod trajectory;

pub use call::spoken_in_call;
pub use conversation::Conversation;
pub use end::{Cancellation, End, Truncation};
pub use group::{FirstObservations, GroupOutcome, GroupRecord, MemberAttempt, MemberRecord};
pub use hash::{ContentHash, content_hash, observation_hash};
pub use json::{ReadError, read_group_line, read_json_line, write_group_line, write_json_line};
pub use prompts::{ImpossiblePrompt, check_prompts, shorten_prompt, shorten_prompts, whole_prompt};
pub use trajectory::{
    Attempt, Blob, Provenance, SCHEMA_VERSION, Step, Timing, Tokens, Trajectory, TurnSpan,
};
