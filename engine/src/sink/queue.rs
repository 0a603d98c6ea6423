//! Records on their way to a writing thread.

use std::{
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use envmill_protocol::Trajectory;

/// The most bytes, as [`weight`] counts them, that wait to be written; more block the engine. As many
/// again may be in the writer's hands.
const BYTES_MAX: usize = 16 << 20;
/// The most records that wait to be written. When a job ends before its time, records come as fast as
/// they can be made.
const RECORDS_MAX: usize = 1 << 13;
/// So many bytes wake the writer before its time.
const BYTES_TO_WAKE: usize = 256 << 10;
/// The writer looks this often: the most that a record waits before it is written.
const PERIOD: Duration = Duration::from_millis(250);

/// A bounded queue of records between the engine and one writer. The writer is woken for batches,
/// not for records: a wake-up costs as much as writing several.
#[derive(Debug, Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    filled: Condvar,
    emptied: Condvar,
}

#[derive(Debug, Default)]
struct State {
    records: Vec<Trajectory>,
    bytes: usize,
    /// The last record is in.
    ended: bool,
    /// Nothing is taken out any more.
    abandoned: bool,
}

impl Queue {
    /// Adds all records, waiting while the queue is full. Forgets them if the writer has given up.
    pub(super) fn push(&self, records: &mut Vec<Trajectory>) {
        let bytes: usize = records.iter().map(weight).sum();
        let mut state = self.lock();
        while !state.abandoned && !state.records.is_empty() && state.is_full_with(bytes) {
            self.filled.notify_one();
            state = self.emptied.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.abandoned {
            records.clear();
            return;
        }
        let woken = state.bytes >= BYTES_TO_WAKE;
        state.bytes += bytes;
        if state.records.is_empty() {
            std::mem::swap(&mut state.records, records);
        } else {
            state.records.append(records);
        }
        if !woken && state.bytes >= BYTES_TO_WAKE {
            self.filled.notify_one();
        }
    }

    /// Says that no more records come.
    pub(super) fn end(&self) {
        self.lock().ended = true;
        self.filled.notify_one();
    }

    /// Says that no more records are taken out.
    pub(super) fn abandon(&self) {
        let mut state = self.lock();
        state.abandoned = true;
        state.records = Vec::new();
        self.emptied.notify_all();
    }

    /// Takes everything there is into `records`, which is empty, waiting for more for at most a
    /// period; `false` once the last record has been taken before.
    pub(super) fn pop(&self, records: &mut Vec<Trajectory>) -> bool {
        let state = self.lock();
        let wait = |state: &mut State| state.bytes < BYTES_TO_WAKE && !state.ended;
        let (mut state, _) = self
            .filled
            .wait_timeout_while(state, PERIOD, wait)
            .unwrap_or_else(PoisonError::into_inner);
        std::mem::swap(&mut state.records, records);
        state.bytes = 0;
        self.emptied.notify_one();
        !(records.is_empty() && state.ended)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves nothing half done in here.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_full_with(&self, bytes: usize) -> bool {
        self.bytes + bytes > BYTES_MAX || self.records.len() >= RECORDS_MAX
    }
}

/// About how many bytes a record holds.
pub(crate) fn weight(record: &Trajectory) -> usize {
    const RECORD: usize = 1024;
    const STEP: usize = 200;
    let steps: usize = record
        .steps
        .iter()
        .map(|step| STEP + step.action.len() + step.observed.observation.len())
        .sum();
    let reset = record.reset.as_ref().map_or(0, |observed| observed.observation.len());
    let generations: usize = record
        .generations
        .iter()
        .map(|generated| 8 * (generated.prompt_token_ids.len() + generated.token_ids.len()))
        .sum();
    let blobs: usize = record.blobs.iter().map(|blob| blob.data.len()).sum();
    let tokens = 16 * record.tokens.token_ids.len();
    RECORD + steps + reset + generations + blobs + tokens + record.messages.len()
}
