//! vLLM over HTTP.

mod answer;
mod body;
mod control;
mod events;
mod link;
mod metrics;
mod vllm;

pub use link::HttpTarget;
pub(crate) use link::Link;
pub use vllm::{Route, Served, VllmHttp, VllmHttpOptions};
