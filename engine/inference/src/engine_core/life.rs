//! How an engine comes and goes.

use std::sync::Arc;

use envmill_protocol::PolicyVersion;
use tokio::sync::Notify;

use super::{
    id,
    state::{Shared, State},
    versions::Layout,
};
use crate::{Error, ErrorKind};

/// Where we are with the engine.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Phase {
    /// It has not said that it is ready.
    Starting,
    Ready,
    /// It is not to be had, because of this.
    Down(Error),
}

/// One of the engine's two connections.
#[derive(Clone, Debug)]
pub(super) struct Connection {
    pub(super) serial: u64,
    /// There is something to write, or another connection has taken its place.
    pub(super) wake: Arc<Notify>,
}

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Input,
    Output,
}

/// What the engine said of itself when it was ready.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    pub(super) layout: &'static Layout,
    pub(super) max_model_len: u32,
}

impl Shared {
    /// A connection of the engine. One that was there is no more.
    pub(super) fn connected(&self, way: Way) -> Connection {
        let mut state = self.lock();
        if let Some(before) = state.ways[way as usize].take() {
            before.wake.notify_one();
            self.lose(&mut state, Error::new(ErrorKind::Lost, "another engine came in its place"));
        }
        state.serial += 1;
        let connection = Connection { serial: state.serial, wake: Arc::default() };
        state.ways[way as usize] = Some(connection.clone());
        self.settle(&state);
        connection
    }

    /// A connection of the engine has ended.
    pub(super) fn disconnected(&self, way: Way, serial: u64, error: Error) {
        let mut state = self.lock();
        if state.is(way, serial) {
            state.ways[way as usize] = None;
            self.lose(&mut state, error);
        }
    }

    /// An engine begins. What was before is lost, and nothing is known of this one.
    pub(super) fn begins(&self) {
        let mut state = self.lock();
        self.forget(&mut state, Error::new(ErrorKind::Lost, "the engine was started again"));
        state.version = PolicyVersion::default();
        self.phase.send_replace(Phase::Starting);
    }

    /// The engine is ready, and this is what it is; false if that came from a connection before.
    pub(super) fn ready(&self, serial: u64, known: Known) -> bool {
        let mut state = self.lock();
        let is = state.is(Way::Input, serial);
        if is {
            state.known = Some(known);
            self.settle(&state);
        }
        is
    }

    /// The engine will not be asked until another one begins.
    pub(super) fn given_up(&self, error: Error) {
        self.forget(&mut self.lock(), error);
    }

    /// Nothing is left of the engine.
    fn forget(&self, state: &mut State, error: Error) {
        for it in &mut state.ways {
            if let Some(it) = it.take() {
                it.wake.notify_one();
            }
        }
        state.known = None;
        self.lose(state, error);
        state.aborts = Vec::new();
    }

    /// Everything under way has failed. If it is only a connection that was lost, and the same engine dials
    /// again, it is told to end what it still works on.
    fn lose(&self, state: &mut State, error: Error) {
        for (place, flight) in state.flights.drain() {
            state.abort(id::name(flight.id, self.run, place));
            flight.end(Err(error.clone()));
        }
        for (_, caller) in state.calls.drain() {
            let _ = caller.send(Err(error.clone()));
        }
        state.out = Vec::new();
        state.ending = false;
        state.load = None;
        // A reason that something was lost for remains the reason, until there is an engine again.
        self.phase.send_if_modified(|phase| {
            let first = !matches!(phase, Phase::Down(_));
            if first {
                *phase = Phase::Down(error);
            }
            first
        });
    }

    /// Ready, if all is there.
    fn settle(&self, state: &State) {
        if state.known.is_some() && state.ways.iter().all(Option::is_some) {
            self.phase.send_replace(Phase::Ready);
        }
    }
}
