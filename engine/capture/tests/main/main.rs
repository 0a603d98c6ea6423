//! The endpoint as harnesses see it, and what is captured of them.

#![expect(clippy::unwrap_used, reason = "tests")]

mod choices;
mod client;
mod completions;
mod constrained;
mod conversations;
mod limits;
mod mock;
mod openai;
mod rig;
mod trace;
