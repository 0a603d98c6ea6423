//! The command against real processes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod faults;
mod outcome;
mod real_servers;
mod rig;
