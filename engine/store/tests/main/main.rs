//! The store: read back, killed at every write, on full and on damaged disks.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "helpers of tests fail loudly")]

mod faulty_disk;
mod files;
mod full_disk;
mod power_losses;
mod scribe;
mod script;
