//! The worker seam: a submission queue and a completion queue, as in `io_uring`.
//!
//! Start at [`Worker`]. The suite that every worker passes is in `conformance` (feature of the same
//! name).
//!
//! Deliberately absent: scheduling, retries and deadlines. A worker does what it is told, at once,
//! and says what came of it; everything it could decide is decided in the engine's core.

mod asker;
#[cfg(feature = "conformance")]
pub mod conformance;
mod tool_steps;
mod waker;
mod worker;

pub use asker::Asker;
pub use tool_steps::ToolSteps;
pub use waker::{Wake, Waker};
pub use worker::Worker;
