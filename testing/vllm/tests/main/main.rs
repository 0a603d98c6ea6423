//! Against a real vLLM. `cargo xtask vllm` runs them; `ENVMILL_VLLM` names the folder that it is installed
//! in.

#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::needless_pass_by_value,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "these are tests"
)]

mod agents;
mod capture;
mod channels;
mod drift;
mod faults;
mod harness;
mod rig;
mod service;
