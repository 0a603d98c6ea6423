//! One worker process: what it is asked, what it answers, and whether it lives.

use std::{
    collections::{HashMap, VecDeque},
    io,
    os::fd::{AsFd as _, BorrowedFd},
    time::{Duration, Instant},
};

use bytes::Bytes;
use envmill_protocol::{Ended, Observation, Observed, Reward};
use envmill_ring::{
    Batch, Channel, ColumnSpec, ColumnsReader, ColumnsWriter, DType, Doorbell, Layout, Limits,
    Message, OverflowMessage, Published, RaggedRows, ReadError, Received,
};
use serde::Deserialize;
use serde_json::json;

use crate::{
    Error, Options,
    description::Columns,
    error::system,
    infos::{InfoKeys, NUMBERS},
    numbers::Row,
    nursery::Nursery,
};

/// The most requests, and answers, in one batch.
const ROWS: u32 = 256;
/// So many batches are on their way in each direction: one is filled while the other is read.
const SLOTS: u32 = 2;
/// After how long a process that has failed to start is tried again; doubled with each failure.
const BACKOFF_MIN: Duration = Duration::from_millis(100);
/// The longest of these pauses.
const BACKOFF_MAX: Duration = Duration::from_secs(10);

/// What a process is asked (`runtime/envmill_worker/port.py`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    Open = 1,
    Reset = 2,
    Step = 3,
    State = 4,
    Tool = 5,
    Close = 6,
    /// A step after which the episode has as many as it may have.
    LastStep = 7,
}

/// The kinds of answers (`runtime/envmill_worker/port.py`).
const FRAME: u8 = 1;
const CLOSED: u8 = 2;
const SEEN: u8 = 3;
const STATE_TEXT: u8 = 4;
const FAILED: u8 = 5;
/// No answer: keys of numbers of `info`.
const KEYS: u8 = 6;

/// The columns of answers: those of every worker, and those of numbers.
const ID: usize = 0;
const KIND: usize = 1;
const TEXT: usize = 2;
const INFO: usize = 3;
const FLAGS: usize = 4;
const REWARD: usize = 5;
const INFO_NUMBERS: usize = 6;
const INFO_KEYS: usize = 7;
const OBSERVATION: usize = 8;
/// The column of requests that actions are in.
const ACTION: usize = 3;

const TERMINATED: u8 = 1;
const TRUNCATED: u8 = 2;

/// A process's answer to a session's command.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) session: u32,
    pub(crate) generation: u32,
    pub(crate) body: Body,
}

/// What an answer says.
#[derive(Debug)]
pub(crate) enum Body {
    /// The frame that OpenEnv's `/ws` would send.
    Frame(Bytes),
    /// An observation.
    Seen(Observed),
    /// The state: the text of one JSON object.
    State(Bytes),
    /// Why the command failed.
    Failed(String),
}

#[derive(Debug)]
struct Request {
    identity: u64,
    ask: Ask,
    text: Bytes,
    /// The action, where actions are a column.
    action: Option<Row>,
}

/// What is used again for each batch.
#[derive(Debug, Default)]
struct Scratch {
    identities: Vec<u64>,
    kinds: Vec<u8>,
    texts: RaggedRows,
    infos: RaggedRows,
    flags: Vec<u8>,
    rewards: Vec<f64>,
    info_numbers: Vec<f64>,
    info_keys: Vec<u32>,
    /// The observations' numbers, and what becomes of them.
    numbers: Vec<u8>,
    observations: Vec<Observation>,
}

impl Scratch {
    fn read(&mut self, batch: &Batch<'_>, columns: &Columns) -> Result<(), ReadError> {
        batch.fixed(ID, &mut self.identities)?;
        batch.fixed(KIND, &mut self.kinds)?;
        batch.ragged(TEXT, &mut self.texts)?;
        if !columns.is_numeric {
            return Ok(());
        }
        batch.ragged(INFO, &mut self.infos)?;
        batch.fixed(FLAGS, &mut self.flags)?;
        batch.fixed(REWARD, &mut self.rewards)?;
        batch.fixed(INFO_NUMBERS, &mut self.info_numbers)?;
        batch.fixed(INFO_KEYS, &mut self.info_keys)?;
        self.observations.clear();
        match &columns.observation {
            Some(numbers) => {
                numbers.read(batch, OBSERVATION, &mut self.numbers, &mut self.observations)?;
            }
            None => {
                let wrapped = |text: Bytes| [b"{\"observation\":", &text[..], b"}"].concat().into();
                self.observations.extend(self.texts.iter().map(wrapped));
            }
        }
        Ok(())
    }

    fn text(&self, row: usize) -> Bytes {
        self.texts.row(row).unwrap_or_default()
    }

    fn seen(&mut self, row: usize, keys: &InfoKeys) -> Observed {
        let flags = self.flags[row];
        Observed {
            observation: self.observations.get_mut(row).map(std::mem::take).unwrap_or_default(),
            reward: Reward::from_number(self.rewards[row]),
            metadata: keys.print(
                self.info_keys[row],
                self.info_numbers.get(row * NUMBERS..(row + 1) * NUMBERS).unwrap_or_default(),
                self.infos.row(row).unwrap_or_default(),
            ),
            // An episode that ends by itself on its last allowed step has ended by itself.
            ended: if flags & TERMINATED != 0 {
                Some(Ended::Terminated)
            } else if flags & TRUNCATED != 0 {
                Some(Ended::Truncated)
            } else {
                None
            },
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It was asked for, and has until then to be ready.
    Starting(Instant),
    Ready,
    /// It has ended, and is asked for again then.
    Down(Instant),
}

/// What a process has to say on its socket.
#[derive(Debug, Deserialize)]
#[serde(tag = "op", rename_all = "lowercase")]
enum Said {
    Ready,
    Failed { error: String },
}

/// What became of the socket.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// Nothing of importance.
    Nothing,
    /// The process takes requests from now on.
    Ready,
    /// The other end is closed: the process has ended, or is about to.
    Gone,
}

/// One worker process and its rings. When it ends another takes its place, in rings of its own.
#[derive(Debug)]
pub(crate) struct Process {
    number: usize,
    columns: Columns,
    state: State,
    channel: Option<Channel>,
    bell: Doorbell,
    requests: Option<ColumnsWriter>,
    answers: Option<ColumnsReader>,
    pending: VecDeque<Request>,
    /// A batch of which not all that goes beside it has left.
    leaving_beside: Option<Published>,
    scratch: Scratch,
    info_keys: InfoKeys,
    /// Sessions that hold a place in it, also those that it has not let go of yet.
    held: u32,
    /// Sessions that were given up and are not confirmed to be gone; when, if a command was under way.
    leaving: HashMap<u32, Option<Instant>>,
    /// Why it does not start.
    failure: Option<String>,
    failures_in_a_row: u32,
    /// The session that it was last seen to be at, and since when.
    seen_at: Option<(u32, Instant)>,
    /// Why it is being killed.
    sentence: Option<String>,
    /// The process, once it is known.
    pub(crate) pid: Option<u32>,
}

impl Process {
    pub(crate) fn new(number: usize, columns: Columns) -> Result<Self, Error> {
        Ok(Self {
            number,
            columns,
            state: State::Down(Instant::now()),
            channel: None,
            bell: Doorbell::new().map_err(system("cannot make an event descriptor"))?,
            requests: None,
            answers: None,
            pending: VecDeque::new(),
            leaving_beside: None,
            scratch: Scratch::default(),
            info_keys: InfoKeys::default(),
            held: 0,
            leaving: HashMap::new(),
            failure: None,
            failures_in_a_row: 0,
            seen_at: None,
            sentence: None,
            pid: None,
        })
    }

    /// Asks the nursery for the process.
    pub(crate) fn start(
        &mut self,
        nursery: &Nursery,
        options: &Options,
        answered: &Doorbell,
        now: Instant,
    ) -> Result<(), Error> {
        let columns = [
            ColumnSpec::fixed("id", DType::U64, &[]),
            ColumnSpec::fixed("kind", DType::U8, &[]),
            ColumnSpec::ragged("text", options.arena_bytes),
        ];
        let action = self.columns.action.as_ref();
        let action = action.map(|it| ColumnSpec::fixed("action", it.dtype, &it.shape));
        let layout = Layout::new(ROWS, SLOTS, columns.into_iter().chain(action))
            .map_err(|error| Error::Options(format!("batches cannot be laid out: {error}")))?;
        let requests = ColumnsWriter::create(layout)
            .map_err(system("cannot share memory with a Python process"))?;
        let (channel, theirs) = Channel::pair().map_err(system("cannot make a pair of sockets"))?;
        // What was rung for the one before is not for this one.
        self.bell.drain().map_err(system("cannot read an event descriptor"))?;
        let hello = json!({ "op": "hello", "rows": ROWS, "arena_bytes": options.arena_bytes });
        let fds = [requests.as_fd(), self.bell.as_fd(), answered.as_fd()];
        channel
            .send(hello.to_string().as_bytes(), &fds)
            .map_err(io::Error::other)
            .and_then(|_| nursery.fork(self.number, theirs.as_fd()))
            .map_err(system("cannot start a Python process"))?;
        self.channel = Some(channel);
        self.requests = Some(requests);
        self.answers = None;
        self.info_keys = InfoKeys::default();
        self.state = State::Starting(now + options.start_timeout);
        self.sentence = None;
        self.pid = None;
        Ok(())
    }

    pub(crate) const fn is_ready(&self) -> bool {
        matches!(self.state, State::Ready)
    }

    /// Why it does not take sessions for now, if so.
    pub(crate) fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    pub(crate) const fn held(&self) -> u32 {
        self.held
    }

    /// Whether it is time to ask for it again.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        matches!(self.state, State::Down(at) if at <= now)
    }

    /// When something is to be done for it, at the latest.
    pub(crate) fn next(&self) -> Option<Instant> {
        match self.state {
            State::Starting(at) | State::Down(at) => Some(at),
            State::Ready => None,
        }
    }

    /// Takes a request, to be sent by [`send`](Self::send).
    ///
    /// # Errors
    ///
    /// What is wrong with an action; nothing was taken.
    pub(crate) fn ask(
        &mut self,
        session: u32,
        generation: u32,
        ask: Ask,
        mut text: Bytes,
    ) -> Result<(), String> {
        let mut action = None;
        if matches!(ask, Ask::Step | Ask::LastStep)
            && let Some(numbers) = &self.columns.action
        {
            action = Some(numbers.read_action(&text)?);
            text = Bytes::new();
        }
        if ask == Ask::Open {
            self.held += 1;
        }
        let identity = u64::from(session) << 32 | u64::from(generation);
        self.pending.push_back(Request { identity, ask, text, action });
        Ok(())
    }

    /// Gives a session up. `is_busy` says that a command of it is under way.
    pub(crate) fn leave(&mut self, session: u32, is_busy: bool) {
        self.leaving.insert(session, is_busy.then(Instant::now));
        // Only actions can be refused.
        let _ = self.ask(session, 0, Ask::Close, Bytes::new());
    }

    /// Whether requests wait for room.
    pub(crate) fn is_waiting_for_room(&self) -> bool {
        self.is_ready() && !self.pending.is_empty()
    }

    /// Sends what there is room for, and wakes the process once.
    pub(crate) fn send(&mut self) -> io::Result<()> {
        let (State::Ready, Some(writer), Some(channel)) =
            (self.state, &mut self.requests, &self.channel)
        else {
            return Ok(());
        };
        let mut is_sent = false;
        loop {
            if let Some(published) = &mut self.leaving_beside {
                if !published.send_overflow(channel).map_err(io::Error::other)? {
                    break;
                }
                self.leaving_beside = None;
            }
            if self.pending.is_empty() {
                break;
            }
            let Some(mut batch) = writer.begin().map_err(io::Error::other)? else { break };
            let count = self.pending.len().min(ROWS as usize);
            let requests = || self.pending.iter().take(count);
            let identities = batch.fixed::<u64>(ID).map_err(io::Error::other)?;
            for (to, request) in identities.iter_mut().zip(requests()) {
                *to = request.identity;
            }
            let kinds = batch.fixed::<u8>(KIND).map_err(io::Error::other)?;
            for (to, request) in kinds.iter_mut().zip(requests()) {
                *to = request.ask as u8;
            }
            for (row, request) in requests().enumerate() {
                batch.push(TEXT, &request.text).map_err(io::Error::other)?;
                if let (Some(numbers), Some(action)) = (&self.columns.action, &request.action) {
                    numbers.write(&mut batch, ACTION, row, action).map_err(io::Error::other)?;
                }
            }
            let published = batch.publish(count as u32).map_err(io::Error::other)?;
            self.leaving_beside = Some(published).filter(|it| !it.overflow.is_empty());
            self.pending.drain(..count);
            is_sent = true;
        }
        if is_sent {
            self.bell.ring()?;
        }
        Ok(())
    }

    /// Takes everything that the process has answered.
    ///
    /// # Errors
    ///
    /// What it has written is not what it should be; it is not to be listened to any more.
    pub(crate) fn take(&mut self, answers: &mut Vec<Answer>) -> io::Result<()> {
        let Some(reader) = &mut self.answers else { return Ok(()) };
        let scratch = &mut self.scratch;
        while let Some(batch) = reader.next_batch().map_err(io::Error::other)? {
            scratch.read(&batch, &self.columns).map_err(io::Error::other)?;
            batch.release();
            for row in 0..scratch.identities.len() {
                let session = (scratch.identities[row] >> 32) as u32;
                let body = match scratch.kinds[row] {
                    FRAME => Body::Frame(scratch.text(row)),
                    SEEN if self.columns.is_numeric => {
                        Body::Seen(scratch.seen(row, &self.info_keys))
                    }
                    KEYS => {
                        self.info_keys.learn(&scratch.text(row)).map_err(io::Error::other)?;
                        continue;
                    }
                    STATE_TEXT => Body::State(scratch.text(row)),
                    FAILED => Body::Failed(String::from_utf8_lossy(&scratch.text(row)).into()),
                    CLOSED => {
                        if self.leaving.remove(&session).is_some() {
                            self.held = self.held.saturating_sub(1);
                        }
                        continue;
                    }
                    kind => return Err(io::Error::other(format!("an answer of kind {kind}"))),
                };
                answers.push(Answer { session, generation: scratch.identities[row] as u32, body });
            }
        }
        Ok(())
    }

    /// Listens on the socket, as far as something is there.
    pub(crate) fn hear(&mut self, message: &mut Message) -> Heard {
        loop {
            let Some(channel) = &self.channel else { return Heard::Nothing };
            match channel.receive(message) {
                Ok(Received::Message) => {}
                Ok(Received::Nothing) => return Heard::Nothing,
                Ok(Received::Closed) | Err(_) => return Heard::Gone,
            }
            let descriptor = message.descriptors().pop();
            if let Some(reader) = &mut self.answers {
                let (Some(OverflowMessage { sequence, column }), Some(memory)) =
                    (OverflowMessage::decode(message.bytes()), descriptor)
                else {
                    return Heard::Gone;
                };
                if let Err(error) = reader.attach_overflow(sequence, column as usize, memory) {
                    tracing::error!(%error, "a Python process sent what it must not");
                    return Heard::Gone;
                }
                continue;
            }
            match serde_json::from_slice(message.bytes()) {
                Ok(Said::Ready) => {
                    let (Some(memory), Some(writer)) = (descriptor, &mut self.requests) else {
                        return Heard::Gone;
                    };
                    match writer.connect(memory.as_fd(), &Limits::default()) {
                        Ok(reader) => self.answers = Some(reader),
                        Err(error) => {
                            self.failure = Some(format!("it shared no memory: {error}"));
                            return Heard::Gone;
                        }
                    }
                    self.state = State::Ready;
                    self.failure = None;
                    self.failures_in_a_row = 0;
                    return Heard::Ready;
                }
                Ok(Said::Failed { error }) => self.failure = Some(error),
                Err(_) => return Heard::Gone,
            }
        }
    }

    /// Why it is to be killed, if so: it does not let go of a session, takes too much memory, or does
    /// not get ready.
    pub(crate) fn judge(&mut self, options: &Options, now: Instant) -> Option<String> {
        if self.sentence.is_some() {
            return None;
        }
        let sentence = match self.state {
            State::Down(_) => None,
            State::Starting(until) => (until <= now)
                .then(|| format!("it was not ready within {:?}", options.start_timeout)),
            State::Ready => self.is_stuck(options, now).or_else(|| self.is_too_large(options)),
        };
        self.sentence.clone_from(&sentence);
        sentence
    }

    /// It goes on with a session that was given up: for longer than the grace, and since longer than that
    /// ago.
    fn is_stuck(&mut self, options: &Options, now: Instant) -> Option<String> {
        let current = self.answers.as_ref()?.peer_state().checked_sub(1);
        let Some(current) = current else {
            self.seen_at = None;
            return None;
        };
        let since = match self.seen_at {
            Some((session, since)) if session == current => since,
            _ => now,
        };
        self.seen_at = Some((current, since));
        let since = since.max((*self.leaving.get(&current)?)?);
        (now.duration_since(since) >= options.grace).then(|| {
            "it was still at a command whose time was over, and nothing else could go on".to_owned()
        })
    }

    fn is_too_large(&self, options: &Options) -> Option<String> {
        let (limit, bytes) = (options.memory_bytes_max?, resident_bytes(self.pid?)?);
        (bytes > limit).then(|| {
            format!("it held {} MiB of memory, more than its {} MiB", bytes >> 20, limit >> 20)
        })
    }

    /// It has ended; what to tell of it. Its sessions are gone, and so is what they were asked.
    pub(crate) fn end(&mut self, how: &str, now: Instant) -> String {
        let was_starting = !self.is_ready();
        let pid = self.pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default();
        let why = match (self.sentence.take(), &self.failure) {
            (Some(sentence), _) => format!("Python process {}{pid}: {sentence}", self.number),
            (None, Some(failure)) if was_starting => failure.clone(),
            (None, _) => format!("Python process {}{pid} {how}", self.number),
        };
        self.channel = None;
        self.requests = None;
        self.answers = None;
        self.info_keys = InfoKeys::default();
        self.leaving_beside = None;
        self.pending.clear();
        self.leaving.clear();
        self.seen_at = None;
        self.held = 0;
        self.pid = None;
        let pause = if was_starting {
            self.failure = Some(why.clone());
            self.failures_in_a_row += 1;
            BACKOFF_MIN.saturating_mul(1 << self.failures_in_a_row.min(8)).min(BACKOFF_MAX)
        } else {
            Duration::ZERO
        };
        self.state = State::Down(now + pause);
        why
    }

    /// The descriptor of its socket.
    pub(crate) fn socket(&self) -> Option<BorrowedFd<'_>> {
        self.channel.as_ref().map(|channel| channel.as_fd())
    }
}

/// How much memory a process holds.
fn resident_bytes(pid: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let pages: u64 = text.split(' ').nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}
