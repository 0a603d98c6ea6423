//! What agents have done.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters of agents, for any thread to read.
#[derive(Debug, Default)]
pub struct AgentCounts {
    pub(crate) generations: AtomicU64,
    pub(crate) sampled_tokens: AtomicU64,
    pub(crate) prompt_tokens: AtomicU64,
    pub(crate) malformed: AtomicU64,
    pub(crate) reasoning_cut: AtomicU64,
    pub(crate) forks: AtomicU64,
    pub(crate) drifts: AtomicU64,
    pub(crate) under_way: AtomicU64,
}

/// Counts at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Generations that were answered.
    pub generations: u64,
    /// Their sampled tokens.
    pub sampled_tokens: u64,
    /// Their prompts' tokens.
    pub prompt_tokens: u64,
    /// Texts that were no action.
    pub malformed: u64,
    /// Turns whose reasoning was cut short.
    pub reasoning_cut: u64,
    /// Conversations that could not be continued by appending, and were rendered anew.
    pub forks: u64,
    /// Prompts that the inference engine counted otherwise.
    pub drifts: u64,
    /// Turns that wait for their model.
    pub under_way: u64,
}

impl AgentCounts {
    /// As they are now.
    #[must_use]
    pub fn now(&self) -> Counted {
        let read = |it: &AtomicU64| it.load(Ordering::Relaxed);
        Counted {
            generations: read(&self.generations),
            sampled_tokens: read(&self.sampled_tokens),
            prompt_tokens: read(&self.prompt_tokens),
            malformed: read(&self.malformed),
            reasoning_cut: read(&self.reasoning_cut),
            forks: read(&self.forks),
            drifts: read(&self.drifts),
            under_way: read(&self.under_way),
        }
    }
}

pub(crate) fn add(counter: &AtomicU64, more: usize) {
    counter.fetch_add(more as u64, Ordering::Relaxed);
}
