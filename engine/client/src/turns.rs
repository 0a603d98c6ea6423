//! The turns of a job for a trainer that answers them.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use envmill_wire::{self as wire, step_batch_request::Request, step_batch_response::Response};
use tokio::{sync::mpsc, time::sleep};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use crate::{
    Error,
    client::Stub,
    error::{is_passing, reason},
    link::PAUSES,
};

/// Batches of actions that may wait for the connection.
const ACTIONS_MAX: usize = 8;

/// A stream of turns, which is made again when it breaks: what was not answered is then shown again.
#[derive(Debug)]
pub struct Turns {
    stub: Stub,
    open: wire::OpenStepBatch,
    reconnect_for: Duration,
    heard: Option<Streaming<wire::StepBatchResponse>>,
    desk: Desk,
}

/// The way for actions back, which other tasks may use. The stream ends when it and [`Turns`] are
/// dropped.
#[derive(Clone, Debug)]
pub struct Answers {
    desk: Desk,
}

type Desk = Arc<Mutex<Table>>;

/// What both have to know. The service's names for turns may denote other turns after its restart; those
/// that are given here are never used twice.
#[derive(Debug, Default)]
struct Table {
    /// To the connection that there is now; `None` after the end.
    said: Option<mpsc::Sender<wire::StepBatchRequest>>,
    /// The service's names of turns that were shown on it and not answered, by ours.
    theirs: HashMap<u64, u64>,
    ours: HashMap<u64, u64>,
    next: u64,
}

impl Table {
    fn show(&mut self, turn: &mut wire::Turn) {
        self.next += 1;
        self.theirs.insert(self.next, turn.turn);
        self.ours.insert(turn.turn, self.next);
        turn.turn = self.next;
    }

    fn cancel(&mut self, theirs: u64) -> Option<u64> {
        let ours = self.ours.remove(&theirs)?;
        self.theirs.remove(&ours);
        Some(ours)
    }

    /// Puts the service's names in; what does not wait any more goes.
    fn answer(&mut self, actions: Vec<wire::Action>) -> Vec<wire::Action> {
        let known = actions.into_iter().filter_map(|mut action| {
            action.turn = self.theirs.remove(&action.turn)?;
            self.ours.remove(&action.turn);
            Some(action)
        });
        known.collect()
    }
}

fn lock(desk: &Desk) -> MutexGuard<'_, Table> {
    // It is whole at every moment.
    desk.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Turns {
    pub(crate) async fn open(
        stub: Stub,
        open: wire::OpenStepBatch,
        reconnect_for: Duration,
    ) -> Result<Self, Error> {
        let mut turns = Self { stub, open, reconnect_for, heard: None, desk: Desk::default() };
        turns.heard = Some(turns.connect().await?);
        Ok(turns)
    }

    /// What comes next; `None` after the job's end. A turn has a name of its own for each time that it is
    /// shown.
    ///
    /// # Errors
    ///
    /// The service has not been there for too long, refuses what was answered, or another stream has
    /// taken this one's place. There is nothing more to come.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost.
    pub async fn next(&mut self) -> Result<Option<Response>, Error> {
        let next = self.look().await;
        if !matches!(next, Ok(Some(_))) {
            lock(&self.desk).said = None;
        }
        next
    }

    /// The way for actions back.
    #[must_use]
    pub fn answers(&self) -> Answers {
        Answers { desk: Arc::clone(&self.desk) }
    }

    async fn look(&mut self) -> Result<Option<Response>, Error> {
        loop {
            let heard = match &mut self.heard {
                Some(heard) => heard,
                None => {
                    let heard = self.connect().await?;
                    self.heard.insert(heard)
                }
            };
            let response = match heard.message().await {
                // The service has been stopped without a word.
                Ok(None) => {
                    self.heard = None;
                    continue;
                }
                // What this version does not know has none.
                Ok(Some(it)) => it.response,
                Err(status) if is_passing(&status) => {
                    tracing::info!(%status, "the connection broke; it is made again");
                    self.heard = None;
                    continue;
                }
                Err(status) => return Err(Error::of(&status)),
            };
            let mut table = lock(&self.desk);
            match response {
                None => {}
                Some(Response::Over(_)) => return Ok(None),
                Some(Response::Turns(mut turns)) => {
                    turns.turns.iter_mut().for_each(|turn| table.show(turn));
                    return Ok(Some(Response::Turns(turns)));
                }
                Some(Response::Cancelled(it)) => {
                    let turns = it.turns.iter().filter_map(|&turn| table.cancel(turn)).collect();
                    return Ok(Some(Response::Cancelled(wire::CancelledTurns { turns })));
                }
                Some(response) => return Ok(Some(response)),
            }
        }
    }

    async fn connect(&mut self) -> Result<Streaming<wire::StepBatchResponse>, Error> {
        let since = Instant::now();
        let mut pause = PAUSES.0;
        loop {
            match self.connect_once().await {
                Ok(heard) => return Ok(heard),
                Err(status) if !is_passing(&status) => return Err(Error::of(&status)),
                Err(status) if since.elapsed() >= self.reconnect_for => {
                    return Err(Error::Unreachable(reason(&status)));
                }
                Err(_) => sleep(pause).await,
            }
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    async fn connect_once(&mut self) -> Result<Streaming<wire::StepBatchResponse>, Status> {
        let (said, receiver) = mpsc::channel(ACTIONS_MAX);
        let first = wire::StepBatchRequest { request: Some(Request::Open(self.open.clone())) };
        // The channel is new and its receiver is here.
        let _ = said.send(first).await;
        let heard = self.stub.step_batch(ReceiverStream::new(receiver)).await?.into_inner();
        let mut table = lock(&self.desk);
        table.said = Some(said);
        table.theirs.clear();
        table.ours.clear();
        Ok(heard)
    }
}

impl Answers {
    /// Answers turns. Waits while much is on its way. What is not waited for any more is dropped: a turn
    /// that was answered on a connection that broke is shown again.
    ///
    /// # Errors
    ///
    /// The stream has ended; [`Turns::next`] says why.
    pub async fn answer(&self, actions: Vec<wire::Action>) -> Result<(), Error> {
        let (said, actions) = {
            let mut table = lock(&self.desk);
            let actions = table.answer(actions);
            (table.said.clone(), actions)
        };
        let over = || Error::Over("the service does not listen any more".into());
        let said = said.ok_or_else(over)?;
        if !actions.is_empty() {
            let request = Some(Request::Actions(wire::Actions { actions }));
            // If it has broken, they are asked for again.
            let _ = said.send(wire::StepBatchRequest { request }).await;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(turn: u64) -> wire::Turn {
        wire::Turn { turn, ..wire::Turn::default() }
    }

    fn answered(table: &mut Table, turns: &[u64]) -> Vec<u64> {
        let action = |&turn: &u64| wire::Action { turn, ..wire::Action::default() };
        table.answer(turns.iter().map(action).collect()).iter().map(|it| it.turn).collect()
    }

    #[test]
    fn a_turn_is_answered_once_and_by_its_own_name() {
        let mut table = Table::default();
        let mut shown = [turn(700), turn(900), turn(800)];
        shown.iter_mut().for_each(|turn| table.show(turn));
        assert_eq!(shown.iter().map(|turn| turn.turn).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(table.cancel(900), Some(2));
        assert_eq!(table.cancel(900), None);
        assert_eq!(answered(&mut table, &[3, 2, 1, 4]), [800, 700]);
        assert!(answered(&mut table, &[3]).is_empty());
        assert!(table.theirs.is_empty() && table.ours.is_empty());
    }

    #[test]
    fn a_name_that_the_service_uses_again_is_another_turn() {
        let mut table = Table::default();
        table.show(&mut turn(700));
        assert_eq!(answered(&mut table, &[1]), [700]);
        table.show(&mut turn(700));
        assert!(answered(&mut table, &[1]).is_empty());
        assert_eq!(answered(&mut table, &[2]), [700]);
    }
}
