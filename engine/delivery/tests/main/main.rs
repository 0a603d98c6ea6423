//! What trainers are owed: told by hand, and in worlds in which everybody dies.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "helpers of tests fail loudly")]

mod batches;
mod checkpoints;
mod disk;
mod rig;
mod sending;
mod together;
mod worlds;
