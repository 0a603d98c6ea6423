//! Servers that a run starts itself.
//!
//! Start at [`Children`]: one thread starts them, waits for them, watches them, restarts them, and
//! adds up what they cost. None outlives the run, even a run that is killed.

pub(crate) mod guard;
mod process;
mod sentry;
mod supervisor;
mod usage;

pub use process::Launch;
pub(crate) use sentry::Sentry;
pub use supervisor::{Children, Ended, Restarted, Settings, StartError};
pub(crate) use usage::Usage;
