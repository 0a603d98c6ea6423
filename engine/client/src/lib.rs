//! A client of the rollout service.
//!
//! [`Client`] is a connection. [`Client::submit`] and [`Client::attach`] give [`Rollouts`]: the records of a
//! job as they come, and everything that its trainer may say. When the connection breaks it is made
//! again, what was not answered is said again, and what is delivered twice for that is dropped. A trainer
//! that is the policy of its job answers turns through [`Client::step_batch`]. On the engine's host records may
//! come through shared memory ([`RolloutsOptions::shared_memory`]), and stay there ([`InPlace`]).
//!
//! Deliberately absent: what a trainer does with records, and where it keeps what it has acknowledged.

mod client;
mod error;
mod link;
mod memory;
mod parts;
mod rollouts;
mod taken;
mod turns;

pub use client::{Client, ConnectOptions};
pub use envmill_ring::View;
pub use envmill_wire as wire;
pub use error::Error;
pub use memory::InPlace;
pub use rollouts::{Delivered, Event, Rollouts, RolloutsOptions, Wishes};
pub use turns::{Answers, Turns};
