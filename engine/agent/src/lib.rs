//! Agents: what stands between an environment and a language model.
//!
//! Start at [`Agents`]. A turn goes in; its observation becomes the end of a prompt, the inference engine
//! samples, and what it sampled becomes the action, with the token ids, log-probabilities and versions that
//! led to it. How, is [`AgentOptions`]: configuration first, and code ([`Script`]) where that is not enough.
//!
//! Deliberately absent: deciding which episode plays when (the core's), and which replica samples
//! (`envmill-inference`'s).

mod agent;
mod agents;
mod counts;
mod options;
mod say;
mod script;
mod talk;
mod tools;

pub use agent::{Agent, AgentError};
pub use agents::Agents;
pub use counts::{AgentCounts, Counted};
pub use options::{
    Affinity, AgentOptions, CodeOptions, Limits, Malformed, SamplingOptions, Then, ToolOptions,
};
pub use script::{Answer, Answering, Ask, Question, Script};
