//! Questions that OpenEnv answers over HTTP, asked beside the sessions.

use std::{sync::mpsc, thread};

use envmill_openenv::{Server, ask_tasks};
use envmill_protocol::{
    Failure, FailureKind, Generation, Outcome, Slot,
    openenv::tasks::{TaskMethod, task_response},
};
use envmill_workers::Waker;

/// Asks one server of the pool, which stands for all: they serve the same environment.
pub struct Api {
    server: Server,
    options: envmill_openenv::Options,
    answers: mpsc::Sender<Answered>,
    answered: mpsc::Receiver<Answered>,
}

/// What came of a question.
pub struct Answered {
    pub(super) slot: Slot,
    pub(super) generation: Generation,
    pub(super) outcome: Outcome,
}

impl Api {
    /// Asks `server`.
    #[must_use]
    pub fn new(server: Server, options: envmill_openenv::Options) -> Self {
        let (answers, answered) = mpsc::channel();
        Self { server, options, answers, answered }
    }

    /// Asks on a thread of its own, as the front lets few such questions be under way. `waker` is woken
    /// when there is an answer.
    pub(super) fn ask(
        &self,
        slot: Slot,
        generation: Generation,
        method: TaskMethod,
        params: String,
        waker: Waker,
    ) {
        let Self { server, options, answers, .. } = self;
        let (server, options, sender) = (server.clone(), options.clone(), answers.clone());
        let started = thread::Builder::new().name("tasks".into()).spawn(move || {
            let result = ask_tasks(&server, &options, method, &params);
            let outcome = Outcome::ToolResult(task_response(result.as_deref()));
            // If nobody takes it, the server is being ended.
            let _ = sender.send(Answered { slot, generation, outcome });
            waker.wake();
        });
        if let Err(error) = started {
            let failure = Failure::kept(FailureKind::Environment, error.to_string());
            let outcome = Outcome::Failed(failure);
            let _ = answers.send(Answered { slot, generation, outcome });
        }
    }

    pub(super) fn answered(&self) -> impl Iterator<Item = Answered> {
        self.answered.try_iter()
    }
}
