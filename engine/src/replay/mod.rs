//! Playing a recording again, and telling where it comes out differently.
//!
//! Start at [`Recording`]. [`Replay`] is the policy that takes its actions; [`compare()`] looks at
//! the records once the run is over.

mod compare;
mod policy;
mod recording;

pub use compare::{Replayed, compare};
pub use policy::Replay;
pub use recording::{Recording, RecordingError};
