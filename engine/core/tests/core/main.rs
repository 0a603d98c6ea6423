//! The core under test: its table, its decisions one by one, and whole worlds in virtual time.

#![allow(clippy::unwrap_used, clippy::panic)]

mod budgets;
mod decisions;
mod ejection;
mod ended;
mod fairness;
mod groups;
mod holding;
mod job_status;
mod memory;
mod metastability;
mod pausing;
mod rounds;
mod seeds;
mod staleness;
mod table;
mod versions;
mod worlds;

use envmill_core::JobOptions;

/// A job of so many episodes on at most so many sessions.
fn job(episodes: u64, sessions_max: u32) -> JobOptions {
    JobOptions { episodes, sessions_max, ..JobOptions::default() }
}
