//! Python environments in worker processes, as their users see them: real interpreters, real classes.
#![allow(clippy::expect_used, reason = "helpers of tests fail loudly")]

mod conformance;
mod faults;
mod numbers;
mod rig;
