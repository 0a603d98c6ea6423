//! The worker.

use std::{
    io,
    os::fd::{AsFd as _, AsRawFd as _},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use envmill_protocol::{
    Command, Event, Failure, FailureKind, Outcome, Request, ServerId, SessionFate, Slot,
    openenv::{Decoder, Reply},
};
use envmill_ring::{Channel, Doorbell, Message, Received};
use envmill_workers::{Wake, Waker, Worker};
use mio::{Events, Interest, Poll, Token, unix::SourceFd};
use serde_json::json;

use crate::{
    Description, Error, Gymnasium, Options, Placement, Target,
    description::Columns,
    error::system,
    nursery::{News, Nursery},
    process::{Answer, Ask, Body, Heard, Process},
    sessions::{Outstanding, Sessions},
};

/// How often processes are looked after while there is something to do.
const LOOK_PERIOD: Duration = Duration::from_millis(100);
/// How often room is looked for, where a process has not taken what came before.
const ROOM_PERIOD: Duration = Duration::from_millis(1);

const WAKER: Token = Token(0);
const ANSWERED: Token = Token(1);
const NURSERY: Token = Token(2);
const FIRST_PROCESS: usize = 3;

/// The number of the process that tells what the environment is.
const DESCRIBER: usize = u32::MAX as usize;

/// Sessions of a Python environment in worker processes.
///
/// With [`Placement::ByServer`], process *i* is server *i*. An `Open` is answered at once; the environment
/// is made when the first command comes, which is what a first reset's deadline is for. A process that
/// ends loses its sessions (each is reported once) and is started anew. What is closed in mid-step is
/// answered at once, too; if the process then does not let go of it, it is killed.
///
/// A worker must stay on a thread that lives as long as it does: the processes die with the thread that
/// started them.
pub struct PythonWorker {
    options: Options,
    decoder: Decoder,
    nursery: Nursery,
    processes: Vec<Process>,
    sessions: Sessions,
    /// The most steps of an episode, where environments leave it to this to count them.
    steps_max: Option<u64>,
    /// Rung by every process that has answered something.
    answered: Doorbell,
    poll: Poll,
    polled: Events,
    waker: Arc<mio::Waker>,
    ready: Vec<Event>,
    taken: Vec<Answer>,
    message: Message,
    look_at: Instant,
    restarted: Vec<ServerId>,
    metrics: Metrics,
}

/// Counts of a worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Metrics {
    /// Sessions that are open.
    pub sessions: u32,
    /// The most that were open at once.
    pub sessions_peak: u32,
    /// Processes that ended before their time and were started anew.
    pub restarts: u64,
}

struct Woken(Arc<mio::Waker>);

impl Wake for Woken {
    fn wake(&self) {
        // It fails only where the descriptor is gone, and the worker with it.
        let _ = self.0.wake();
    }
}

impl PythonWorker {
    /// Starts the processes, and asks the environment what it is.
    ///
    /// # Errors
    ///
    /// If the interpreter cannot be run, or the environment cannot be imported or described.
    pub fn start(mut options: Options) -> Result<(Self, Description), Error> {
        if options.processes == 0 || options.sessions_per_process == 0 {
            return Err(Error::Options(
                "there must be at least one process and one session".into(),
            ));
        }
        let nursery = Nursery::start(&options)?;
        let (description, columns) = describe(&nursery, &options)?;
        if !description.concurrent {
            options.sessions_per_process = 1;
        } else if let Target::Gymnasium(Gymnasium { vector: Some(rows), .. }) = options.target {
            options.sessions_per_process = rows;
        }
        let poll = Poll::new().map_err(system("cannot wait for events"))?;
        let waker = mio::Waker::new(poll.registry(), WAKER).map_err(system("cannot be woken"))?;
        let answered = Doorbell::new().map_err(system("cannot make an event descriptor"))?;
        let register = |fd: i32, token| {
            poll.registry()
                .register(&mut SourceFd(&fd), token, Interest::READABLE)
                .map_err(system("cannot wait for a descriptor"))
        };
        register(answered.as_fd().as_raw_fd(), ANSWERED)?;
        if let Some(channel) = nursery.channel() {
            register(channel.as_fd().as_raw_fd(), NURSERY)?;
        }
        let processes =
            (0..options.processes as usize).map(|number| Process::new(number, columns.clone()));
        let mut this = Self {
            decoder: Decoder::new(options.truncated_from.clone()),
            processes: processes.collect::<Result<_, _>>()?,
            options,
            nursery,
            sessions: Sessions::default(),
            steps_max: columns.steps_max,
            answered,
            poll,
            polled: Events::with_capacity(64),
            waker: Arc::new(waker),
            ready: Vec::new(),
            taken: Vec::new(),
            message: Message::new(),
            look_at: Instant::now(),
            restarted: Vec::new(),
            metrics: Metrics::default(),
        };
        let now = Instant::now();
        for number in 0..this.processes.len() {
            this.begin(number, now)?;
        }
        Ok((this, description))
    }

    /// Counts so far.
    #[must_use]
    pub const fn metrics(&self) -> Metrics {
        self.metrics
    }

    /// How many sessions one process takes.
    #[must_use]
    pub const fn sessions_per_process(&self) -> u32 {
        self.options.sessions_per_process
    }

    /// The servers that have come back since the last call.
    pub fn take_restarted(&mut self) -> Vec<ServerId> {
        std::mem::take(&mut self.restarted)
    }

    /// The process id of the nursery, whose descendants all processes are.
    #[must_use]
    pub fn nursery_pid(&self) -> u32 {
        self.nursery.pid()
    }

    fn begin(&mut self, number: usize, now: Instant) -> Result<(), Error> {
        let process = &mut self.processes[number];
        process.start(&self.nursery, &self.options, &self.answered, now)?;
        if let Some(socket) = process.socket() {
            self.poll
                .registry()
                .register(
                    &mut SourceFd(&socket.as_raw_fd()),
                    Token(FIRST_PROCESS + number),
                    Interest::READABLE,
                )
                .map_err(system("cannot wait for a process"))?;
        }
        Ok(())
    }

    fn answer(&mut self, command: &Command, outcome: Outcome) {
        let Command { slot, generation, .. } = *command;
        self.ready.push(Event { slot, generation, outcome });
    }

    fn take(&mut self, command: &Command) {
        let slot = command.slot;
        let Some(session) = self.sessions.at(slot) else {
            match command.request {
                Request::Open { server } => self.open(command, server),
                Request::Close => self.answer(command, Outcome::Closed),
                _ => {
                    let failure =
                        Failure::lost(FailureKind::Disconnected, "the slot has no session");
                    self.answer(command, Outcome::Failed(failure));
                }
            }
            return;
        };
        let (ask, outstanding) = match &command.request {
            Request::Open { .. } => {
                let failure = Failure::kept(FailureKind::Protocol, "the slot has a session");
                self.answer(command, Outcome::Failed(failure));
                return;
            }
            Request::Close => {
                self.give_up(slot);
                self.answer(command, Outcome::Closed);
                return;
            }
            Request::Reset { .. } => (Ask::Reset, Outstanding::Reset),
            Request::Step { .. } => {
                let is_last = self.steps_max.is_some_and(|most| session.steps + 1 >= most);
                (if is_last { Ask::LastStep } else { Ask::Step }, Outstanding::Step)
            }
            Request::State => (Ask::State, Outstanding::State),
            Request::ToolCall { .. } => (Ask::Tool, Outstanding::ToolCall),
        };
        if session.outstanding.is_some() {
            let failure =
                Failure::kept(FailureKind::Limit, "a command of this session is outstanding");
            self.answer(command, Outcome::Failed(failure));
            return;
        }
        session.generation = command.generation;
        let text = match &command.request {
            Request::Reset { parameters } => parameters.clone(),
            Request::Step { action } => action.clone(),
            Request::ToolCall { request } => request.clone(),
            // Environments of Gymnasium do not tell.
            Request::State => session.steps.to_string().into(),
            Request::Open { .. } | Request::Close => Bytes::new(),
        };
        let process = &mut self.processes[session.process];
        match process.ask(session.number, command.generation.0, ask, text) {
            Ok(()) => session.outstanding = Some(outstanding),
            Err(problem) => {
                let failure = Failure::kept(FailureKind::Invalid, problem);
                self.answer(command, Outcome::Failed(failure));
            }
        }
    }

    fn open(&mut self, command: &Command, server: ServerId) {
        let chosen = match self.options.placement {
            Placement::ByServer => {
                Some(server.0 as usize).filter(|&number| number < self.processes.len())
            }
            Placement::Even => {
                // Those that do not start are only asked where there is no other.
                let load = |&number: &usize| {
                    let process = &self.processes[number];
                    (process.failure().is_some(), process.held())
                };
                (0..self.processes.len()).min_by_key(load)
            }
        };
        let Some(number) = chosen else {
            let failure =
                Failure::lost(FailureKind::Unreachable, format!("there is no server {server}"));
            self.answer(command, Outcome::Failed(failure));
            return;
        };
        let process = &mut self.processes[number];
        if let Some(problem) = process.failure() {
            let failure = Failure::lost(FailureKind::Factory, problem);
            self.answer(command, Outcome::Failed(failure));
            return;
        }
        if process.held() >= self.options.sessions_per_process {
            let most = self.options.sessions_per_process;
            let message = format!("Python process {number} has its {most} sessions");
            self.answer(command, Outcome::Failed(Failure::lost(FailureKind::Capacity, message)));
            return;
        }
        let session = self.sessions.open(command.slot, number, command.generation);
        // Only actions can be refused.
        let _ = process.ask(session, command.generation.0, Ask::Open, Bytes::new());
        self.metrics.sessions += 1;
        self.metrics.sessions_peak = self.metrics.sessions_peak.max(self.metrics.sessions);
        self.answer(command, Outcome::Opened);
    }

    /// Ends a session; its process is told.
    fn give_up(&mut self, slot: Slot) {
        if let Some(session) = self.sessions.remove(slot) {
            self.metrics.sessions -= 1;
            self.processes[session.process].leave(session.number, session.outstanding.is_some());
        }
    }

    /// Takes what a process has answered.
    fn collect(&mut self, number: usize, events: &mut Vec<Event>) {
        let mut taken = std::mem::take(&mut self.taken);
        let result = self.processes[number].take(&mut taken);
        for answer in taken.drain(..) {
            let Answer { session, generation, body } = answer;
            let Some(slot) = self.sessions.slot_of(session) else { continue };
            let Some(known) = self.sessions.at(slot) else { continue };
            if known.generation.0 != generation {
                continue;
            }
            let Some(outstanding) = known.outstanding.take() else { continue };
            let generation = known.generation;
            if matches!(body, Body::Seen(_)) {
                known.steps = if outstanding == Outstanding::Reset { 0 } else { known.steps + 1 };
            }
            let reply = match body {
                Body::Frame(frame) => self.decoder.decode(&frame, outstanding.expect()),
                Body::Seen(seen) => Ok(Reply::Observed(seen)),
                Body::State(state) => Ok(Reply::State(state)),
                Body::Failed(why) => Err(Failure::kept(FailureKind::Environment, why)),
            };
            let outcome = match reply {
                Ok(Reply::Observed(seen)) if outstanding == Outstanding::Reset => {
                    Outcome::Reset(seen)
                }
                Ok(Reply::Observed(seen)) => Outcome::Stepped(seen),
                Ok(Reply::State(state)) => Outcome::State(state),
                Ok(Reply::Mcp(response)) => Outcome::ToolResult(response),
                Err(failure) => Outcome::Failed(failure),
            };
            if matches!(&outcome, Outcome::Failed(it) if it.session == SessionFate::Lost) {
                self.give_up(slot);
            }
            events.push(Event { slot, generation, outcome });
        }
        self.taken = taken;
        if let Err(error) = result {
            tracing::error!(number, %error, "a Python process wrote what it must not; it is killed");
            let _ = self.nursery.kill(number);
        }
    }

    /// Reports the sessions of a process that has ended, and has it started anew.
    fn bury(&mut self, number: usize, how: &str, now: Instant, events: &mut Vec<Event>) {
        if let Some(socket) = self.processes[number].socket() {
            let _ = self.poll.registry().deregister(&mut SourceFd(&socket.as_raw_fd()));
        }
        // What it answered before it ended still counts.
        self.collect(number, events);
        let was_ready = self.processes[number].is_ready();
        let why = self.processes[number].end(how, now);
        let kind = if was_ready { FailureKind::Disconnected } else { FailureKind::Factory };
        for slot in self.sessions.of_process(number) {
            let Some(session) = self.sessions.remove(slot) else { continue };
            self.metrics.sessions -= 1;
            let outcome = Outcome::Failed(Failure::lost(kind, why.as_str()));
            events.push(Event { slot, generation: session.generation, outcome });
        }
        self.metrics.restarts += 1;
        tracing::warn!(number, "{why}");
    }

    /// A process's end of its socket is closed, or it says what it must not: its end is near, or is
    /// made to come.
    fn turn_away(&mut self, number: usize) {
        if let Some(socket) = self.processes[number].socket() {
            let _ = self.poll.registry().deregister(&mut SourceFd(&socket.as_raw_fd()));
        }
        let _ = self.nursery.kill(number);
    }

    fn hear_nursery(&mut self, now: Instant, events: &mut Vec<Event>) {
        loop {
            match self.nursery.news(&mut self.message) {
                Ok(None) => return,
                Ok(Some(News::Started { number, pid })) => {
                    if let Some(process) = self.processes.get_mut(number) {
                        process.pid = Some(pid);
                    }
                }
                Ok(Some(News::Ended { number, how })) => {
                    if number < self.processes.len() {
                        self.bury(number, &how, now, events);
                    }
                }
                Ok(Some(News::Nursery { .. })) => {}
                Err(error) => {
                    self.replace_nursery(&error, now, events);
                    return;
                }
            }
        }
    }

    /// The nursery has gone, and so have all processes: the kernel sees to that.
    fn replace_nursery(&mut self, error: &io::Error, now: Instant, events: &mut Vec<Event>) {
        tracing::error!(%error, "the Python process that starts the others has ended");
        if let Some(channel) = self.nursery.channel() {
            let fd = channel.as_fd().as_raw_fd();
            let _ = self.poll.registry().deregister(&mut SourceFd(&fd));
        }
        for number in 0..self.processes.len() {
            self.bury(number, "was killed with the process that had started it", now, events);
        }
        match Nursery::start(&self.options) {
            Ok(nursery) => {
                if let Some(channel) = nursery.channel() {
                    let fd = channel.as_fd().as_raw_fd();
                    let _ = self.poll.registry().register(
                        &mut SourceFd(&fd),
                        NURSERY,
                        Interest::READABLE,
                    );
                }
                self.nursery = nursery;
            }
            Err(error) => tracing::error!(%error, "it cannot be started anew"),
        }
    }

    /// Looks after the processes: kills what is to be killed, starts what is due.
    fn look_after(&mut self, now: Instant) {
        for number in 0..self.processes.len() {
            let process = &mut self.processes[number];
            if let Some(sentence) = process.judge(&self.options, now) {
                tracing::warn!(number, "a Python process is killed: {sentence}");
                let _ = self.nursery.kill(number);
            }
            if self.processes[number].is_due(now)
                && let Err(error) = self.begin(number, now)
            {
                let how = format!("cannot be started: {error}");
                self.processes[number].end(&how, now);
                tracing::error!(number, "a Python process {how}");
            }
        }
        self.look_at = now + LOOK_PERIOD;
    }

    /// How long to wait at the most.
    fn patience(&self, wait: Duration, now: Instant) -> Duration {
        let mut until = self.look_at;
        for process in &self.processes {
            if process.is_waiting_for_room() {
                until = until.min(now + ROOM_PERIOD);
            }
            if let Some(at) = process.next() {
                until = until.min(at);
            }
        }
        wait.min(until.saturating_duration_since(now))
    }

    fn send_all(&mut self) {
        for (number, process) in self.processes.iter_mut().enumerate() {
            if let Err(error) = process.send() {
                // It is about to be buried.
                tracing::debug!(number, %error, "requests to a Python process did not leave");
            }
        }
    }
}

impl Worker for PythonWorker {
    fn submit(&mut self, batch: &mut Vec<Command>) {
        for command in batch.drain(..) {
            self.take(&command);
        }
        self.send_all();
    }

    fn completions(&mut self, events: &mut Vec<Event>, wait: Duration) {
        let before = events.len();
        events.append(&mut self.ready);
        let now = Instant::now();
        if now >= self.look_at {
            self.look_after(now);
        }
        let wait = if events.len() > before { Duration::ZERO } else { self.patience(wait, now) };
        let mut polled = std::mem::replace(&mut self.polled, Events::with_capacity(0));
        if let Err(error) = self.poll.poll(&mut polled, Some(wait))
            && error.kind() != io::ErrorKind::Interrupted
        {
            tracing::error!(%error, "cannot wait for the Python processes");
        }
        for event in &polled {
            match event.token() {
                WAKER => {}
                ANSWERED => {
                    if let Err(error) = self.answered.drain() {
                        tracing::error!(%error, "an event descriptor cannot be read");
                    }
                }
                NURSERY => self.hear_nursery(now, events),
                Token(token) => {
                    let number = token - FIRST_PROCESS;
                    match self.processes[number].hear(&mut self.message) {
                        Heard::Ready => self.restarted.push(ServerId(number as u32)),
                        Heard::Nothing => {}
                        Heard::Gone => self.turn_away(number),
                    }
                }
            }
        }
        self.polled = polled;
        for number in 0..self.processes.len() {
            self.collect(number, events);
        }
        self.send_all();
        events.append(&mut self.ready);
    }

    fn waker(&self) -> Waker {
        Waker::new(Arc::new(Woken(Arc::clone(&self.waker))))
    }
}

/// Asks the environment what it is, in a process that is there for nothing else.
fn describe(nursery: &Nursery, options: &Options) -> Result<(Description, Columns), Error> {
    let until = Instant::now() + options.start_timeout;
    let (channel, theirs) = Channel::pair().map_err(system("cannot make a pair of sockets"))?;
    channel
        .send(json!({ "op": "describe" }).to_string().as_bytes(), &[])
        .map_err(io::Error::other)
        .map_err(system("cannot ask a Python process"))?;
    nursery.fork(DESCRIBER, theirs.as_fd()).map_err(system("cannot start a Python process"))?;
    drop(theirs);
    let mut message = Message::new();
    loop {
        if let Some(answer) = description(&channel, &mut message, options)? {
            // That the process ends is no news to anybody.
            return Ok(answer);
        }
        if Instant::now() >= until {
            return Err(Error::Timeout(options.start_timeout));
        }
        while nursery.news(&mut message).map_err(|_| Error::Ended)?.is_some() {}
        nursery.wait(&channel, until)?;
    }
}

#[derive(serde::Deserialize)]
#[serde(tag = "op", rename_all = "lowercase")]
enum Told {
    Described,
    Failed { error: String },
}

fn description(
    channel: &Channel,
    message: &mut Message,
    options: &Options,
) -> Result<Option<(Description, Columns)>, Error> {
    let failed = |problem: String| Error::Target { target: options.target.to_string(), problem };
    match channel.receive(message) {
        Ok(Received::Message) => {}
        Ok(Received::Nothing) => return Ok(None),
        Ok(Received::Closed) | Err(_) => {
            return Err(failed(
                "the process that was to tell about it has ended: see its output".into(),
            ));
        }
    }
    match serde_json::from_slice(message.bytes()) {
        Ok(Told::Described) => {}
        Ok(Told::Failed { error }) => return Err(failed(error)),
        Err(error) => return Err(failed(error.to_string())),
    }
    let Some(fd) = message.descriptors().pop() else {
        return Err(failed("it told nothing".into()));
    };
    let mut text = Vec::new();
    let mut file = std::fs::File::from(fd);
    io::Seek::rewind(&mut file)
        .and_then(|()| io::Read::read_to_end(&mut file, &mut text))
        .map_err(system("cannot read what the environment is"))?;
    Description::read(&Bytes::from(text)).map(Some).map_err(|error| failed(error.to_string()))
}
