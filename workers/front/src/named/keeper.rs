//! The task that keeps a session.

use std::sync::{Arc, OnceLock};

use envmill_protocol::{Failure, Outcome, Request, SessionFate};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use super::Directory;
use crate::hub::Hold;

/// What a keeper is told. It treats one message after another.
pub(super) enum Message {
    /// Ask the worker. Where the answer is dropped, the session has ended before.
    Call {
        request: Request,
        answer: oneshot::Sender<Outcome>,
        /// Given back when the call's turn comes; a WebSocket has a place of its own.
        place: Option<OwnedSemaphorePermit>,
    },
    /// End the session; dropped when its slot is free.
    Close { ended: oneshot::Sender<()> },
}

/// Keeps the session until it is closed or lost, or the front closes. Nobody who leaves while a call
/// is under way stops it: its answer is then thrown away.
pub(super) async fn keep(
    directory: Arc<Directory>,
    id: String,
    hold: Hold,
    mut messages: mpsc::Receiver<Message>,
    ending: Arc<OnceLock<Failure>>,
) {
    let mut closed = None;
    loop {
        let message = tokio::select! {
            biased;
            // Nothing is under way, so this is the news that the session is lost, or that the front
            // closes. Anything else would be a worker's slip, and concerns nobody.
            news = hold.answer() => match news {
                Some(Outcome::Failed(failure)) if failure.session == SessionFate::Lost => {
                    let _ = ending.set(failure);
                    break;
                }
                Some(_) => continue,
                None => break,
            },
            message = messages.recv() => message,
        };
        match message {
            Some(Message::Call { request, answer, place }) => {
                drop(place);
                hold.ask(request);
                let Some(outcome) = hold.answer().await else { break };
                let lost = match &outcome {
                    Outcome::Failed(failure) if failure.session == SessionFate::Lost => {
                        let _ = ending.set(failure.clone());
                        true
                    }
                    _ => false,
                };
                let _ = answer.send(outcome);
                if lost {
                    break;
                }
            }
            Some(Message::Close { ended }) => {
                closed = Some(ended);
                break;
            }
            None => break,
        }
    }
    directory.forget(&id);
    // What still waits is dropped with its answers.
    drop(messages);
    hold.leave().await;
    drop(closed);
}
