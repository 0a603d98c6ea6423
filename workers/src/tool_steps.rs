//! Steps that call tools, on sessions whose actions call none.

use std::{
    collections::HashMap,
    mem,
    ops::{Deref, DerefMut},
    time::Duration,
};

use envmill_protocol::{Command, Event, Generation, Outcome, Request, Slot, openenv::ToolStep};

use crate::{Waker, Worker};

/// A worker whose environments have tools beside their actions. Once that is said
/// ([`call_tools_beside`](Self::call_tools_beside)), a `list_tools` or `call_tool` action goes as a request of
/// its own on the same session ([`Request::ToolCall`]), and comes back as a step with the observation that the
/// action has elsewhere. Until then, and for all other commands, it is the worker that it was made of.
#[derive(Debug)]
pub struct ToolSteps<W> {
    worker: W,
    is_on: bool,
    /// The call that is under way in each slot: one at most.
    under_way: HashMap<Slot, (Generation, ToolStep)>,
}

impl<W> ToolSteps<W> {
    /// Nothing is changed yet.
    #[must_use]
    pub fn new(worker: W) -> Self {
        Self { worker, is_on: false, under_way: HashMap::new() }
    }

    /// From now on steps that call tools go beside the actions.
    pub const fn call_tools_beside(&mut self) {
        self.is_on = true;
    }
}

impl<W> Deref for ToolSteps<W> {
    type Target = W;

    fn deref(&self) -> &W {
        &self.worker
    }
}

impl<W> DerefMut for ToolSteps<W> {
    fn deref_mut(&mut self) -> &mut W {
        &mut self.worker
    }
}

impl<W: Worker> Worker for ToolSteps<W> {
    fn submit(&mut self, batch: &mut Vec<Command>) {
        if self.is_on {
            for Command { slot, generation, request } in &mut *batch {
                // What was under way there is never answered, if this overtakes it.
                self.under_way.remove(slot);
                let Request::Step { action } = &*request else { continue };
                // What is no JSON is the environment's to refuse.
                let Ok(Some((step, call))) = ToolStep::read(action) else { continue };
                self.under_way.insert(*slot, (*generation, step));
                *request = Request::ToolCall { request: call.into() };
            }
        }
        self.worker.submit(batch);
    }

    fn completions(&mut self, events: &mut Vec<Event>, wait: Duration) {
        let before = events.len();
        self.worker.completions(events, wait);
        if self.under_way.is_empty() {
            return;
        }
        for Event { slot, generation, outcome } in &mut events[before..] {
            if self.under_way.get(slot).is_some_and(|(asked, _)| asked == generation)
                && let Some((_, step)) = self.under_way.remove(slot)
            {
                *outcome = step.outcome(mem::replace(outcome, Outcome::Closed));
            }
        }
    }

    fn waker(&self) -> Waker {
        self.worker.waker()
    }
}
