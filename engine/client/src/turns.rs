//! The turns of a job for a trainer that answers them.

use std::{
    collections::HashSet,
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
/// that are given here are never used twice: the place in the table, and how often it was taken before.
#[derive(Debug, Default)]
struct Table {
    /// To the connection that there is now; `None` after the end.
    said: Option<mpsc::Sender<wire::StepBatchRequest>>,
    places: Vec<Place>,
    free: Vec<u32>,
}

/// The place of a turn that was shown on this connection and not answered.
#[derive(Debug, Default)]
struct Place {
    /// How often it was taken.
    taken: u32,
    /// The service's name of the turn; `None` where there is none.
    theirs: Option<u64>,
}

impl Table {
    fn show(&mut self, turn: &mut wire::Turn) {
        let index = self.free.pop().unwrap_or_else(|| {
            self.places.push(Place::default());
            // More turns than that do not wait.
            (self.places.len() - 1) as u32
        });
        let place = &mut self.places[index as usize];
        place.taken = place.taken.wrapping_add(1);
        place.theirs = Some(turn.turn);
        turn.turn = u64::from(place.taken) << 32 | u64::from(index);
    }

    /// The service's name of a turn, which does not wait any more.
    fn take(&mut self, ours: u64) -> Option<u64> {
        let index = ours as u32;
        let place = self.places.get_mut(index as usize)?;
        let theirs = place.theirs.take_if(|_| u64::from(place.taken) == ours >> 32)?;
        self.free.push(index);
        Some(theirs)
    }

    /// Our names of turns that the service has cancelled. It does not often.
    fn cancel(&mut self, theirs: &[u64]) -> Vec<u64> {
        let cancelled: HashSet<u64> = theirs.iter().copied().collect();
        let mut ours = Vec::new();
        for (index, place) in self.places.iter_mut().enumerate() {
            if place.theirs.take_if(|it| cancelled.contains(it)).is_some() {
                self.free.push(index as u32);
                ours.push(u64::from(place.taken) << 32 | index as u64);
            }
        }
        ours
    }

    /// The connection is another one: what was shown on the last one is shown again.
    fn forget(&mut self) {
        for (index, place) in self.places.iter_mut().enumerate() {
            if place.theirs.take().is_some() {
                self.free.push(index as u32);
            }
        }
    }

    /// Puts the service's names in; what does not wait any more goes.
    fn answer(&mut self, mut actions: Vec<wire::Action>) -> Vec<wire::Action> {
        actions.retain_mut(|action| match self.take(action.turn) {
            Some(theirs) => {
                action.turn = theirs;
                true
            }
            None => false,
        });
        actions
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
                    let turns = table.cancel(&it.turns);
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
        table.forget();
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
        let [first, second, third] = shown.map(|turn| turn.turn);
        assert_eq!(table.cancel(&[900]), [second]);
        assert!(table.cancel(&[900]).is_empty());
        assert_eq!(answered(&mut table, &[third, second, first, third + 1]), [800, 700]);
        assert!(answered(&mut table, &[third]).is_empty());
        assert_eq!(table.free.len(), 3);
    }

    #[test]
    fn a_name_that_the_service_uses_again_is_another_turn() {
        let mut table = Table::default();
        let shown = |table: &mut Table| {
            let mut turn = turn(700);
            table.show(&mut turn);
            turn.turn
        };
        let first = shown(&mut table);
        assert_eq!(answered(&mut table, &[first]), [700]);
        let second = shown(&mut table);
        assert!(answered(&mut table, &[first]).is_empty());
        table.forget();
        let third = shown(&mut table);
        assert!(answered(&mut table, &[second]).is_empty());
        assert_eq!(answered(&mut table, &[third]), [700]);
    }
}
