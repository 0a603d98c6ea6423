//! Recordings: written, cut, damaged and played again.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "helpers of tests fail loudly")]

mod bounds;
mod garbage;
mod replay;
mod run;
