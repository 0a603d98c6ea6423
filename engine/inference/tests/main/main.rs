//! The channels as their users see them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "these are tests"
)]

mod core_engine;
mod core_faults;
mod core_vllm;
mod pool;
mod pool_held;
mod pool_updates;
mod puppet;

use std::sync::Arc;

use envmill_inference::{Deliver, Request, RequestId, Sampling};

/// A request for so many tokens, greedy, with log-probabilities, whatever ends a turn.
fn request(id: u64, prompt: &[u32], max_tokens: u32) -> Request {
    let sampling = Sampling { temperature: 0.0, ignore_eos: true, ..Sampling::default() };
    Request {
        id: RequestId(id),
        prompt: Arc::from(prompt),
        messages: None,
        sampling: Arc::new(sampling),
        max_tokens,
        seed: None,
        affinity: None,
        deliver: Deliver::Whole,
    }
}
