//! The service over real sockets and a real store, with players that do what the test says.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod batches;
mod jobs;
mod lives;
mod memory;
mod memory_door;
mod memory_python;
mod policies;
mod refusals;
mod rig;
mod security;
mod tasks;
mod versions;
