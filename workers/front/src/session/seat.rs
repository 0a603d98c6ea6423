//! How a WebSocket holds its session.

use std::task::{Context, Poll};

use envmill_protocol::{Outcome, Request};

use crate::{hub::Hold, named::Member};

/// A WebSocket's hold on a session.
pub(super) enum Seat {
    /// It is the only one.
    Own(Hold),
    /// Others may ask the session too.
    Named(Member),
}

impl Seat {
    /// Asks the worker. There must be no other request of this WebSocket's under way.
    pub(super) fn ask(&mut self, request: Request) {
        match self {
            Self::Own(hold) => hold.ask(request),
            Self::Named(member) => member.ask(request),
        }
    }

    /// The answer, or the news that the session was lost; registers the task if there is neither.
    /// `None` says that the front is closing.
    pub(super) fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<Option<Outcome>> {
        match self {
            Self::Own(hold) => hold.poll_answer(cx),
            Self::Named(member) => member.poll_answer(cx),
        }
    }
}
