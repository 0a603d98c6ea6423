//! vLLM over HTTP.

mod answer;
mod body;
mod chat;
mod control;
mod events;
mod link;
mod metrics;
mod offer;
mod vllm;

pub use chat::OpenAiChat;
pub use link::HttpTarget;
pub(crate) use link::Link;
pub(crate) use offer::Offer;
pub use vllm::{Route, Served, VllmHttp, VllmHttpOptions};
