//! vLLM without its frontend: the messages of its `EngineCore`, over sockets that it dials.
//!
//! [`EngineCore`] holds the lock of [`state`] for a moment to write a request into a buffer, and a task of
//! [`link`] writes the buffer; another reads what comes, and hands it out. What the bytes mean is in
//! [`encode`] and [`decode`], what they look like in [`msgpack`] and [`zmtp`].

mod calls;
mod check;
mod decode;
mod encode;
mod engine;
mod facts;
mod flight;
#[cfg(test)]
mod golden;
mod grammar;
mod handshake;
mod id;
mod life;
mod link;
mod matrix;
mod msgpack;
mod options;
mod sockets;
mod state;
mod versions;
mod zmtp;

pub use engine::EngineCore;
pub use facts::ModelFacts;
pub use options::EngineCoreOptions;
