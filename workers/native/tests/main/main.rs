//! Native environments as their users see them.
#![allow(
    clippy::expect_used,
    clippy::float_cmp,
    reason = "helpers of tests fail loudly, and what is compared was computed alike"
)]

mod cartpole;
mod conformance;
mod determinism;
mod frozenlake;
mod ranges;
mod registry;
mod sessions;
mod support;
mod wordguess;
