//! Harnesses as environments of a service: programs that speak OpenAI's API, whose calls are recorded.
//!
//! Start at [`Harness`], the policy of such an environment: a turn is an episode, and its decision says how
//! the program has ended. Programs that are started are `program.rs`, those that come by themselves `door.rs`;
//! what becomes of either is `play.rs`, what one leaves behind `outcome.rs`. The environment itself knows
//! nothing but that (`ends.rs`): what a program plays, it plays elsewhere.
//!
//! Deliberately absent: who plays what and when (the core's), the endpoint that programs speak with
//! (`envmill-capture`), and anything that a job could bring to be run.

mod door;
mod ends;
mod error;
mod jobs;
mod options;
mod outcome;
mod place;
mod play;
mod policy;
mod program;

pub(crate) use ends::Ends;
pub use error::HarnessError;
pub(crate) use jobs::{Job, Jobs};
pub use options::{HarnessOptions, Launch, Players};
pub(crate) use options::{KEYS, Table};
pub(crate) use policy::Harness;
