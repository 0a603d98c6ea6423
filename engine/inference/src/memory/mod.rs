//! vLLM over shared memory: a plug-in of ours in its API server (`python/envmill_vllm`), and rings between
//! (`workers/ring`). What the rows are is in `docs/inference.md`.

mod control;
mod desk;
mod layout;
mod link;
mod meeting;
mod options;
mod requests;
mod results;
#[cfg(test)]
pub(crate) mod tests;
mod vllm;
mod watch;

pub(crate) use layout::VERSION;
pub use options::VllmMemoryOptions;
pub use vllm::VllmMemory;
