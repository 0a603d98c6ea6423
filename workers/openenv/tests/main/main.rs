//! The worker against servers of its own: well-behaved ones, and ones that do what none should.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod closing;
mod faults;
mod flow;
mod http;
mod opening;
mod peer;
mod rig;
mod stock;
mod tls;
mod tools;
