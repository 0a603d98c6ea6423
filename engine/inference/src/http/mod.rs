//! vLLM over HTTP.

mod answer;
mod body;
mod chat;
mod control;
mod events;
mod link;
mod metrics;
mod vllm;

pub use chat::OpenAiChat;
pub use link::HttpTarget;
pub(crate) use link::Link;
pub use vllm::{Route, Served, VllmHttp, VllmHttpOptions};
