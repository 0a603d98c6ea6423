//! The trait.

use envmill_protocol::{Decision, Generation, Slot, Turn};

/// Something that answers turns with actions: a built-in policy, a remote trainer, an agent around
/// a language model.
///
/// # Contract
///
/// * Everything submitted since the last look is the batch; decisions may come in any order, in any
///   later call of [`decisions`](Self::decisions) and from any batch.
/// * Every turn is answered by exactly one decision that echoes its slot and generation, except one
///   that was cancelled, which is answered at most once. An answer to a cancelled turn is ignored.
/// * A policy without an action for a turn answers with a
///   [`PolicyError`](envmill_protocol::PolicyError); the episode fails with it as its cause. Nothing
///   in a turn makes a policy panic.
/// * No call blocks. A policy that answers later is given the engine's
///   [`Waker`](envmill_workers::Waker) when it is made and wakes it once decisions are ready; one
///   that answers within [`submit`](Self::submit) needs none.
/// * What is drawn at random comes from the turn's `seed` and `step` alone, so that another attempt
///   at the episode gets the same actions for the same observations.
pub trait Policy: Send {
    /// Takes all turns, leaving the list empty.
    fn submit(&mut self, turns: &mut Vec<Turn>);

    /// Says that these turns' decisions are no longer wanted (a deadline, a cancel), so that work on
    /// them can stop. Unknown ones are ignored.
    fn cancel(&mut self, turns: &[(Slot, Generation)]);

    /// Appends the decisions that are ready.
    fn decisions(&mut self, decisions: &mut Vec<Decision>);

    /// What the policy has counted so far, for displays and summaries: names in the form of `snake_case`,
    /// the same at each call. Called a few times a second.
    fn numbers(&self) -> Vec<(&'static str, f64)> {
        Vec::new()
    }

    /// How it speaks with those whom it asks, where it has found that out by itself: who that is, and how.
    fn channels(&self) -> Vec<(String, String)> {
        Vec::new()
    }
}
