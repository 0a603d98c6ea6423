//! A WebSocket's part in a named session.

use std::{
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll, ready},
};

use envmill_protocol::{Failure, FailureKind, Outcome, Request};
use tokio::sync::{mpsc, oneshot};

use super::{Directory, keeper::Message};

/// A WebSocket's part in a named session. Dropping it detaches from the session or, if it is the
/// WebSocket's own, ends it.
pub(crate) struct Member {
    directory: Arc<Directory>,
    id: String,
    role: Role,
    messages: mpsc::Sender<Message>,
    /// The answer to what was asked.
    pending: Option<oneshot::Receiver<Outcome>>,
    /// Ready when the session has ended.
    ended: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// Why it has ended, if by itself.
    ending: Arc<OnceLock<Failure>>,
}

/// What ends with a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// The session.
    Owner,
    /// Its part in it.
    Attached,
}

impl Member {
    pub(super) fn new(
        directory: Arc<Directory>,
        id: String,
        role: Role,
        messages: mpsc::Sender<Message>,
        ending: Arc<OnceLock<Failure>>,
    ) -> Self {
        let watched = messages.clone();
        Self {
            directory,
            id,
            role,
            messages,
            pending: None,
            ended: Box::pin(async move { watched.closed().await }),
            ending,
        }
    }

    /// The session's name.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// Asks the worker, after all that waits already. There must be no other request of this
    /// member's under way.
    pub(crate) fn ask(&mut self, request: Request) {
        let (answer, pending) = oneshot::channel();
        // There is room kept for each member. If the session has ended, the answer says so.
        let _ = self.messages.try_send(Message::Call { request, answer, place: None });
        self.pending = Some(pending);
    }

    /// The answer, or the news that the session has ended; registers the task if there is neither.
    /// `None` says that the front is closing. Must not be called again after the session has ended.
    pub(crate) fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<Option<Outcome>> {
        if let Some(pending) = &mut self.pending {
            let answered = ready!(Pin::new(pending).poll(cx));
            self.pending = None;
            if let Ok(outcome) = answered {
                return Poll::Ready(Some(outcome));
            }
        }
        ready!(self.ended.as_mut().poll(cx));
        if self.directory.is_closing() {
            return Poll::Ready(None);
        }
        let failure = self.ending.get().cloned().unwrap_or_else(|| {
            Failure::lost(FailureKind::Session, format!("Unknown session_id: {}", self.id))
        });
        Poll::Ready(Some(Outcome::Failed(failure)))
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        match self.role {
            Role::Owner => self.directory.end(&self.id),
            Role::Attached => self.directory.detach(&self.id),
        }
    }
}
