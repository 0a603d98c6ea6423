//! The command against real processes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod bench;
mod captured;
mod check;
mod check_encrypted;
mod documented;
mod faults;
mod flight;
mod formats;
mod gateway;
mod groups;
mod inspect;
mod outcome;
mod paths;
mod plain;
mod players;
mod python;
mod real_servers;
mod replays;
mod resume;
mod rig;
mod sampling;
mod scoring;
mod secrets;
mod serve;
mod service;
mod shapes;
mod tools;
