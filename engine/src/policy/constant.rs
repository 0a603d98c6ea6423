//! The same action, always.

use bytes::Bytes;
use envmill_protocol::{Decision, Generation, Slot, Turn};

use crate::policy::Policy;

/// Answers every turn with one action. Answers within `submit`.
#[derive(Debug)]
pub struct Constant {
    action: Bytes,
    ready: Vec<Decision>,
}

impl Constant {
    /// A policy that always takes `action`: the text of one JSON object.
    #[must_use]
    pub const fn new(action: Bytes) -> Self {
        Self { action, ready: Vec::new() }
    }
}

impl Policy for Constant {
    fn submit(&mut self, turns: &mut Vec<Turn>) {
        self.ready.extend(turns.drain(..).map(|turn| turn.decided(Ok(self.action.clone()))));
    }

    fn cancel(&mut self, _turns: &[(Slot, Generation)]) {}

    fn decisions(&mut self, decisions: &mut Vec<Decision>) {
        decisions.append(&mut self.ready);
    }
}
