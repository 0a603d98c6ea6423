//! Columns as sessions: the worker.

use std::{
    collections::VecDeque,
    fmt, mem,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use envmill_protocol::{
    Command, Event, Failure, FailureKind, Generation, Observed, Outcome, Request, Slot,
};
use envmill_workers::{Waker, Worker};
use serde_json::value::RawValue;

use crate::{
    JsonEdge, json,
    pool::{Pool, Rows},
    signal::Signal,
    timers::Timers,
};

/// The first number of rows; it doubles when they are used up.
const ROWS_MIN: usize = 64;

/// The longest episode id that is kept, in bytes; a longer one is cut.
const EPISODE_ID_BYTES_MAX: usize = 255;

/// Sessions of one native environment, in this process.
///
/// Each session is a row of the environment's columns. A batch is decoded into the columns first and
/// then stepped range by range; answers that are due later wait in a heap of deadlines (rounded up to
/// a millisecond), not on threads. There is one "server"; the id in an `Open` is ignored. Rows
/// double when they are used up, so memory is bounded by the largest number of sessions held at once.
///
/// A session's episodes are drawn from the seeds in their resets. Without a seed they go on from the
/// one before; a session that never got a seed starts from the number of sessions opened before it.
pub struct NativeWorker {
    rows: Box<dyn Rows>,
    capacity: usize,
    free: Vec<usize>,
    sessions: Vec<Option<Session>>,
    opened: u64,
    open: usize,
    open_peak: usize,
    /// Answers to be fetched; those of an epoch that is over are dropped then. At most one a
    /// command.
    ready: VecDeque<(Epoch, Event)>,
    /// The epoch of each slot: it ends with a `Close`.
    epochs: Vec<Epoch>,
    timers: Timers<(u32, Epoch)>,
    stepping: Vec<Staged>,
    resetting: Vec<Staged>,
    signal: Arc<Signal>,
    scratch: Vec<u8>,
}

type Epoch = u32;

struct Session {
    row: usize,
    steps: u64,
    episode_id: Option<Box<str>>,
    /// An answer that is not due yet.
    delayed: Option<Box<Event>>,
    /// Whether a command of the batch being taken waits in the columns.
    staged: bool,
}

/// A row with its command in the columns.
#[derive(Clone, Copy)]
struct Staged {
    row: usize,
    slot: Slot,
    generation: Generation,
}

impl NativeWorker {
    /// Sessions of an environment of one's own.
    #[must_use]
    pub fn of<E: JsonEdge + 'static>(environment: E) -> Self {
        Self::new(Box::new(Pool::new(environment)))
    }

    pub(crate) fn new(rows: Box<dyn Rows>) -> Self {
        Self {
            rows,
            capacity: 0,
            free: Vec::new(),
            sessions: Vec::new(),
            opened: 0,
            open: 0,
            open_peak: 0,
            ready: VecDeque::new(),
            epochs: Vec::new(),
            timers: Timers::new(Instant::now()),
            stepping: Vec::new(),
            resetting: Vec::new(),
            signal: Arc::default(),
            scratch: Vec::new(),
        }
    }

    /// The most sessions that were open at once.
    #[must_use]
    pub const fn sessions_peak(&self) -> usize {
        self.open_peak
    }

    fn take(&mut self, command: Command, now: Instant) {
        let Command { slot, generation, request } = command;
        let index = slot.0 as usize;
        if index >= self.sessions.len() {
            if !matches!(request, Request::Open { .. }) {
                let outcome = match request {
                    Request::Close => Outcome::Closed,
                    _ => Outcome::Failed(no_session()),
                };
                self.ready.push_back((0, Event { slot, generation, outcome }));
                return;
            }
            self.sessions.resize_with(index + 1, || None);
            self.epochs.resize(index + 1, 0);
        }
        // A second command to a slot in one batch: what is staged comes first.
        if self.sessions[index].as_ref().is_some_and(|session| session.staged) {
            self.run(now);
        }
        let Some(session) = &mut self.sessions[index] else {
            match request {
                Request::Open { .. } => {
                    self.open(index);
                    self.answer(slot, generation, Outcome::Opened);
                }
                Request::Close => self.answer(slot, generation, Outcome::Closed),
                _ => self.answer(slot, generation, Outcome::Failed(no_session())),
            }
            return;
        };
        let row = session.row;
        let staged = Staged { row, slot, generation };
        match request {
            Request::Open { .. } => {
                let failure = Failure::kept(FailureKind::Protocol, "the slot has a session");
                self.answer(slot, generation, Outcome::Failed(failure));
            }
            Request::Reset { parameters } => match self.rows.stage_reset(row, &parameters) {
                Ok(()) => {
                    session.staged = true;
                    session.steps = 0;
                    session.episode_id = episode_id(&parameters);
                    self.resetting.push(staged);
                }
                Err(invalid) => {
                    self.answer(slot, generation, Outcome::Failed(invalid.failure()));
                }
            },
            Request::Step { action } => match self.rows.stage_action(row, &action) {
                Ok(()) => {
                    session.staged = true;
                    session.steps += 1;
                    self.stepping.push(staged);
                }
                Err(invalid) => {
                    self.answer(slot, generation, Outcome::Failed(invalid.failure()));
                }
            },
            Request::State => {
                let state = self.state(index);
                self.answer(slot, generation, Outcome::State(state));
            }
            Request::ToolCall { request } => {
                self.answer(slot, generation, Outcome::ToolResult(no_tools(&request)));
            }
            Request::Close => self.close(slot, generation),
        }
    }

    fn open(&mut self, index: usize) {
        let row = self.free.pop().unwrap_or_else(|| {
            let used = self.capacity;
            self.capacity = (used * 2).max(ROWS_MIN);
            self.rows.grow(self.capacity);
            // The lowest row comes next: what is open stays together and is stepped in few ranges.
            self.free.extend((used + 1..self.capacity).rev());
            used
        });
        self.rows.stage_default(row, self.opened);
        self.rows.reset(row..row + 1);
        self.opened += 1;
        self.open += 1;
        self.open_peak = self.open_peak.max(self.open);
        self.sessions[index] =
            Some(Session { row, steps: 0, episode_id: None, delayed: None, staged: false });
    }

    fn close(&mut self, slot: Slot, generation: Generation) {
        let index = slot.0 as usize;
        if let Some(session) = self.sessions[index].take() {
            self.free.push(session.row);
            self.open -= 1;
            // Nothing of this session is answered any more.
            self.epochs[index] = self.epochs[index].wrapping_add(1);
        }
        self.answer(slot, generation, Outcome::Closed);
        let sessions = self.capacity - self.free.len();
        if self.timers.len() > 2 * sessions + ROWS_MIN {
            let epochs = &self.epochs;
            self.timers.retain(|(slot, epoch)| epochs[*slot as usize] == *epoch);
        }
    }

    fn answer(&mut self, slot: Slot, generation: Generation, outcome: Outcome) {
        let epoch = self.epochs[slot.0 as usize];
        self.ready.push_back((epoch, Event { slot, generation, outcome }));
    }

    /// Runs what is staged in the columns, range by range, and answers it.
    fn run(&mut self, now: Instant) {
        let mut resetting = mem::take(&mut self.resetting);
        each_range(&mut resetting, |rows| self.rows.reset(rows));
        for staged in resetting.drain(..) {
            let observed = self.rows.observed_reset(staged.row);
            self.unstage(staged.slot);
            self.answer(staged.slot, staged.generation, Outcome::Reset(observed));
        }
        self.resetting = resetting;

        let mut stepping = mem::take(&mut self.stepping);
        each_range(&mut stepping, |rows| self.rows.step(rows));
        for staged in stepping.drain(..) {
            self.unstage(staged.slot);
            self.stepped(staged, now);
        }
        self.stepping = stepping;
    }

    fn unstage(&mut self, slot: Slot) {
        if let Some(session) = &mut self.sessions[slot.0 as usize] {
            session.staged = false;
        }
    }

    fn stepped(&mut self, staged: Staged, now: Instant) {
        let Staged { row, slot, generation } = staged;
        let (result, delay): (Result<Observed, Failure>, Duration) = self.rows.observed_step(row);
        let outcome = result.map_or_else(Outcome::Failed, Outcome::Stepped);
        if delay.is_zero() {
            self.answer(slot, generation, outcome);
            return;
        }
        let index = slot.0 as usize;
        if let Some(session) = &mut self.sessions[index] {
            // Two delayed answers at once would need two outstanding commands, which a slot may not
            // have; the one before is answered early rather than lost.
            let before = session.delayed.replace(Box::new(Event { slot, generation, outcome }));
            self.timers.set(now, delay, (slot.0, self.epochs[index]));
            if let Some(event) = before {
                self.ready.push_back((self.epochs[index], *event));
            }
        }
    }

    fn state(&mut self, index: usize) -> Bytes {
        let Some(session) = &self.sessions[index] else { return Bytes::from_static(b"{}") };
        let out = &mut self.scratch;
        out.clear();
        out.extend_from_slice(b"{\"episode_id\":");
        match &session.episode_id {
            Some(id) => json::write_str(id, out),
            None => out.extend_from_slice(b"null"),
        }
        out.extend_from_slice(b",\"step_count\":");
        json::write_u64(session.steps, out);
        self.rows.write_state(session.row, out);
        out.push(b'}');
        Bytes::copy_from_slice(out)
    }

    /// Moves what has fallen due to the answers that can be fetched.
    fn expire(&mut self, now: Instant) {
        while let Some((slot, epoch)) = self.timers.due(now) {
            let index = slot as usize;
            if self.epochs[index] != epoch {
                continue;
            }
            let delayed = self.sessions[index].as_mut().and_then(|session| session.delayed.take());
            if let Some(event) = delayed {
                self.ready.push_back((epoch, *event));
            }
        }
    }

    fn deliver(&mut self, events: &mut Vec<Event>) {
        for (epoch, event) in self.ready.drain(..) {
            let current = self.epochs.get(event.slot.0 as usize).copied().unwrap_or_default();
            if epoch == current {
                events.push(event);
            }
        }
    }
}

impl Worker for NativeWorker {
    fn submit(&mut self, batch: &mut Vec<Command>) {
        let now = Instant::now();
        for command in batch.drain(..) {
            self.take(command, now);
        }
        self.run(now);
    }

    fn completions(&mut self, events: &mut Vec<Event>, wait: Duration) {
        let before = events.len();
        let now = Instant::now();
        self.expire(now);
        self.deliver(events);
        if events.len() > before || wait.is_zero() {
            return;
        }
        self.signal.wait(self.timers.until_next(now).map_or(wait, |next| next.min(wait)));
        self.expire(Instant::now());
        self.deliver(events);
    }

    fn waker(&self) -> Waker {
        let signal: Arc<Signal> = Arc::clone(&self.signal);
        Waker::new(signal)
    }
}

impl fmt::Debug for NativeWorker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NativeWorker")
            .field("sessions", &(self.capacity - self.free.len()))
            .finish_non_exhaustive()
    }
}

/// Calls `run` with each maximal range of neighbouring rows.
fn each_range(staged: &mut [Staged], mut run: impl FnMut(std::ops::Range<usize>)) {
    staged.sort_unstable_by_key(|staged| staged.row);
    for range in staged.chunk_by(|a, b| a.row + 1 == b.row) {
        run(range[0].row..range[range.len() - 1].row + 1);
    }
}

fn no_session() -> Failure {
    Failure::lost(FailureKind::Disconnected, "the slot has no session")
}

fn episode_id(parameters: &[u8]) -> Option<Box<str>> {
    let mut found = None;
    // The environment has accepted these parameters, so they are an object.
    let _ = json::object(parameters, |key, value, invalid| {
        if key == "episode_id" {
            found = json::string(key, value, invalid);
        }
    });
    let mut id = found?;
    id.truncate(id.floor_char_boundary(EPISODE_ID_BYTES_MAX));
    Some(id.into())
}

/// The JSON-RPC answer of an environment that has no tools, in the words of OpenEnv's servers.
fn no_tools(request: &[u8]) -> Bytes {
    let (mut id, mut method, mut named) = ("null".to_owned(), String::new(), false);
    let read = json::object(request, |key, value, invalid| match key {
        "id" => value.clone_into(&mut id),
        "method" => method = json::string(key, value, invalid).unwrap_or_default(),
        "params" => {
            // What is no object has no name.
            let _ = json::object(value.as_bytes(), |key, value, _| {
                named |= key == "name" && !matches!(value, "null" | r#""""#);
            });
        }
        _ => {}
    });
    let (code, message) = match (read, &*method) {
        (Err(_), _) => (-32700, "Parse error".to_owned()),
        (Ok(()), "tools/call") if !named => (-32602, "Missing 'name' in params".into()),
        (Ok(()), "tools/list" | "tools/call") => {
            (-32603, "Environment does not support MCP".into())
        }
        (Ok(()), method) => (-32601, format!("Method not found: {method}")),
    };
    // An id is text of the request: still valid JSON, as `object` has parsed it.
    let id: &RawValue = serde_json::from_str(&id).unwrap_or(RawValue::NULL);
    let message = serde_json::Value::from(message);
    let text = format!(
        r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":{code},"message":{message},"data":null}}}}"#
    );
    Bytes::from(text)
}
