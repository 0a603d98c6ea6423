//! The content hash: what was played, never when, where or on which attempt.

use std::fmt;

use crate::{
    Observed,
    record::{End, Trajectory},
};

/// A 128-bit hash of a trajectory's content; shown as 32 hexadecimal digits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ContentHash(pub [u8; 16]);

impl fmt::Display for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The hash of what was played: task, seed, reset parameters, actions, observations, metadata,
/// rewards as received, tokens and the end with its cause. Timings, placement, ids and attempts do
/// not count, so the same play has the same hash over every path.
///
/// BLAKE3, cut to 128 bits, over each part's length (u64, little-endian) and bytes in that order.
#[must_use]
pub fn content_hash(trajectory: &Trajectory) -> ContentHash {
    let mut parts = Parts(blake3::Hasher::new());
    parts.bytes(trajectory.task_id.as_bytes());
    parts.bytes(trajectory.seed.map(u64::to_le_bytes).as_ref().map_or(&[], |seed| &seed[..]));
    parts.bytes(&trajectory.reset_parameters);
    match &trajectory.reset {
        Some(observed) => parts.observed(observed),
        None => parts.bytes(b"no reset"),
    }
    parts.number(trajectory.steps.len());
    for step in &trajectory.steps {
        parts.bytes(&step.action);
        parts.observed(&step.observed);
    }
    let tokens = &trajectory.tokens;
    parts.number(tokens.token_ids.len());
    for id in &tokens.token_ids {
        parts.0.update(&id.to_le_bytes());
    }
    parts.bytes(&tokens.loss_mask);
    for logprob in &tokens.logprobs {
        parts.0.update(&logprob.to_le_bytes());
    }
    parts.bytes(trajectory.end.name().as_bytes());
    match &trajectory.end {
        // A failure's message may name a port or a time; its kind does not.
        End::Failed(failure) => parts.bytes(failure.kind.name().as_bytes()),
        end => parts.bytes(end.cause().as_bytes()),
    }
    let mut short = [0; 16];
    short.copy_from_slice(&parts.0.finalize().as_bytes()[..16]);
    ContentHash(short)
}

struct Parts(blake3::Hasher);

impl Parts {
    fn number(&mut self, n: usize) {
        self.0.update(&(n as u64).to_le_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len());
        self.0.update(bytes);
    }

    fn observed(&mut self, observed: &Observed) {
        self.bytes(&observed.observation);
        self.bytes(&observed.reward.raw);
        self.bytes(&observed.metadata);
    }
}
