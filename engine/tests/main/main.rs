//! The command against real processes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod faults;
mod flight;
mod groups;
mod outcome;
mod plain;
mod real_servers;
mod rig;
mod shapes;
mod tools;
