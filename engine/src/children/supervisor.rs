//! The thread that keeps servers running.

use std::{
    io,
    path::PathBuf,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, Receiver, Sender},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use envmill_openenv::{Options, Server};
use envmill_protocol::ServerId;

use super::{
    process::{Launch, Process, free_port, tail},
    sentry::Sentry,
    usage::Usage,
};
use crate::report;

/// How often servers are looked at.
const PERIOD: Duration = Duration::from_millis(50);
/// How often what they cost is added up.
const USAGE_PERIOD: Duration = Duration::from_millis(500);
/// The pause before a first restart; doubles up to `BACKOFF_MAX`.
const BACKOFF_MIN: Duration = Duration::from_millis(200);
const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// A server that has run this long starts again with the shortest pause.
const STABLE: Duration = Duration::from_secs(30);
/// So many restarts in a row that did not last, and the server is left alone.
const RESTARTS_MAX: u32 = 10;
/// How long servers get to end by themselves.
const GRACE: Duration = Duration::from_secs(3);

/// Servers to start.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Each server's place in the pool, how it is started and where its output goes.
    pub servers: Vec<(ServerId, Launch, PathBuf)>,
    /// How the worker will reach them: headers and the like for `/health`.
    pub options: Options,
    /// Headers for every request.
    pub headers: Vec<(String, String)>,
    /// How long a start may take until `/health` answers.
    pub start_deadline: Duration,
}

/// A server that ended and is there again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restarted {
    /// Which.
    pub server: ServerId,
    /// Where it is now; the port may be another one.
    pub url: String,
    /// What identifies its environment; empty if it did not say.
    pub fingerprint: String,
}

/// A server ended that had answered before.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the server started by `{what}` ended ({status}); its last output:\n{tail}")]
pub struct Ended {
    /// How it was started.
    pub what: String,
    /// Its exit status, or the signal that ended it.
    pub status: String,
    /// The end of its output.
    pub tail: String,
}

/// Servers could not be started. All that were are stopped again.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The system refused.
    #[error("cannot start {what}: {source}")]
    System {
        /// What was to be started.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// It ended before it answered.
    #[error("the server started by `{what}` ended at once; its last output:\n{tail}")]
    Ended {
        /// What was started.
        what: String,
        /// The end of its output.
        tail: String,
    },
    /// It did not answer in time.
    #[error(
        "the server started by `{what}` did not answer {url}/health within {waited:?} \
         (--start-timeout-ms); its last output:\n{tail}"
    )]
    Silent {
        /// What was started.
        what: String,
        /// Where it was expected.
        url: String,
        /// The deadline.
        waited: Duration,
        /// The end of its output.
        tail: String,
    },
    /// The run was interrupted meanwhile.
    #[error("interrupted while the servers were starting")]
    Interrupted,
}

/// The servers of a run. Dropping it stops them.
#[derive(Debug)]
pub struct Children {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    restarted: Receiver<Restarted>,
}

#[derive(Debug)]
struct Shared {
    settings: Settings,
    state: Mutex<State>,
    changed: Condvar,
    sentry: Sentry,
    /// A server that had answered has ended.
    has_ended: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    servers: Vec<Kept>,
    stopping: bool,
    stopped: bool,
    failed: Option<StartError>,
}

/// One server and its past.
#[derive(Debug, Default)]
struct Kept {
    process: Option<Process>,
    port: u16,
    started: Option<Instant>,
    /// It has answered since it was started.
    is_up: bool,
    /// It has answered before.
    was_up: bool,
    failures: u32,
    next_start: Option<Instant>,
    /// How it ended for the first time after it had answered.
    ended: Option<Ended>,
    /// CPU time of its processes that have ended.
    cpu_before: Duration,
    usage: Usage,
}

impl Kept {
    /// Takes note of what the process costs, and of its end.
    fn measure(&mut self) {
        if let Some(process) = &self.process {
            let usage = process.usage();
            self.usage.cpu = self.cpu_before + usage.cpu;
            self.usage.rss_peak_bytes = self.usage.rss_peak_bytes.max(usage.rss_peak_bytes);
        }
    }

    fn reap(&mut self, sentry: &Sentry) -> Option<String> {
        self.measure();
        self.cpu_before = self.usage.cpu;
        self.is_up = false;
        self.process.take().map(|process| match process.reap(sentry) {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        })
    }
}

impl Children {
    /// Starts the servers and waits until each answers. `is_interrupted` is asked meanwhile.
    ///
    /// # Errors
    ///
    /// One of them did not come up; all are stopped.
    pub fn start(
        settings: Settings,
        is_interrupted: impl Fn() -> bool,
    ) -> Result<Self, StartError> {
        let servers = settings.servers.iter().map(|_| Kept::default()).collect();
        let shared = Arc::new(Shared {
            settings,
            state: Mutex::new(State { servers, ..State::default() }),
            changed: Condvar::new(),
            sentry: Sentry::post(),
            has_ended: AtomicBool::new(false),
        });
        let (sender, restarted) = mpsc::channel();
        let thread = {
            let shared = Arc::clone(&shared);
            std::thread::Builder::new()
                .name("children".into())
                .spawn(move || shared.keep(&sender))
                .map_err(|source| StartError::System { what: "a thread".into(), source })?
        };
        let children = Self { shared, thread: Some(thread), restarted };
        let mut state = children.shared.lock();
        loop {
            if let Some(error) = state.failed.take() {
                return Err(error);
            }
            if state.servers.iter().all(|server| server.was_up) {
                drop(state);
                return Ok(children);
            }
            if is_interrupted() {
                return Err(StartError::Interrupted);
            }
            state = children.shared.wait(state);
        }
    }

    /// The URLs of the servers, in the order of the settings.
    #[must_use]
    pub fn urls(&self) -> Vec<String> {
        self.shared.lock().servers.iter().map(|server| url(server.port)).collect()
    }

    /// The process ids of those that run, each of which leads its server's other processes.
    #[must_use]
    pub fn ids(&self) -> Vec<u32> {
        let state = self.shared.lock();
        state.servers.iter().filter_map(|kept| kept.process.as_ref().map(Process::id)).collect()
    }

    /// The servers that were restarted since the last call.
    pub fn restarted(&self) -> impl Iterator<Item = Restarted> {
        self.restarted.try_iter()
    }

    /// Whether a server has ended since all were started, whether or not it is there again. Costs next to
    /// nothing.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.shared.has_ended.load(Ordering::Acquire)
    }

    /// How the first server ended that has ended since all were started. Where none has, one is waited for: whoever
    /// sees a connection break sees it before the process is gone.
    #[must_use]
    pub fn ended(&self, wait: Duration) -> Option<Ended> {
        let deadline = Instant::now() + wait;
        let mut state = self.shared.lock();
        while !self.has_ended() && Instant::now() < deadline {
            state = self.shared.wait(state);
        }
        state.servers.iter().find_map(|server| server.ended.clone())
    }

    /// Stops the servers (first asking, then by force) and says what they have cost.
    pub fn stop(mut self) -> report::Children {
        self.halt();
        let state = self.shared.lock();
        let total = |f: fn(&Usage) -> f64| state.servers.iter().map(|kept| f(&kept.usage)).sum();
        let rss_peak_bytes = state.servers.iter().map(|kept| kept.usage.rss_peak_bytes).sum();
        report::Children { cpu_s: total(|usage| usage.cpu.as_secs_f64()), rss_peak_bytes }
    }

    fn halt(&mut self) {
        let mut state = self.shared.lock();
        state.stopping = true;
        for server in &mut state.servers {
            server.measure();
            if let Some(process) = &server.process {
                process.terminate();
            }
        }
        self.shared.changed.notify_all();
        // The processes die with the thread that started them, which therefore ends last.
        let deadline = Instant::now() + GRACE;
        while Instant::now() < deadline && !state.all_ended() {
            state = self.shared.wait(state);
        }
        for server in &mut state.servers {
            server.reap(&self.shared.sentry);
        }
        state.stopped = true;
        drop(state);
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            // A panic of that thread was shown when it happened, and everything is stopped.
            let _ = thread.join();
        }
    }
}

impl Drop for Children {
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.halt();
        }
    }
}

impl State {
    fn all_ended(&self) -> bool {
        self.servers.iter().filter_map(|server| server.process.as_ref()).all(Process::has_ended)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // What is behind the lock is whole at every moment that could panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed.wait_timeout(state, PERIOD).unwrap_or_else(PoisonError::into_inner).0
    }

    fn keep(&self, restarted: &Sender<Restarted>) {
        let mut measured = Instant::now();
        loop {
            let mut state = self.lock();
            while state.stopping && !state.stopped {
                state = self.wait(state);
            }
            if state.stopped {
                return;
            }
            if measured.elapsed() >= USAGE_PERIOD {
                measured = Instant::now();
                state.servers.iter_mut().for_each(Kept::measure);
            }
            let mut starting = Vec::new();
            for index in 0..state.servers.len() {
                if let Err(error) = self.look_after(index, &mut state.servers[index]) {
                    state.failed.get_or_insert(error);
                }
                if state.servers[index].process.is_some() && !state.servers[index].is_up {
                    starting.push((index, state.servers[index].port));
                }
            }
            drop(state);
            for (index, port) in starting {
                self.probe(index, port, restarted);
            }
            let state = self.lock();
            if !state.stopping {
                drop(self.wait(state));
            }
        }
    }

    /// Starts, restarts or gives up one server, as its state asks.
    fn look_after(&self, index: usize, kept: &mut Kept) -> Result<(), StartError> {
        let (id, launch, log) = &self.settings.servers[index];
        if kept.process.as_ref().is_some_and(Process::has_ended) {
            let lasted = kept.started.is_some_and(|started| started.elapsed() >= STABLE);
            let was_up = kept.is_up;
            let status = kept.reap(&self.sentry).unwrap_or_default();
            if !kept.was_up && kept.failures == 0 {
                // The port may have been taken since it was found free: once more with another.
                kept.failures = 1;
                kept.port = 0;
                kept.next_start = Some(Instant::now());
                return Ok(());
            }
            if !kept.was_up {
                return Err(StartError::Ended { what: what(launch), tail: tail(log) });
            }
            if lasted {
                kept.failures = 0;
            }
            if !was_up {
                kept.port = 0;
            }
            if kept.ended.is_none() {
                let (what, tail) = (what(launch), tail(log));
                kept.ended = Some(Ended { what, status: status.clone(), tail });
                self.has_ended.store(true, Ordering::Release);
                self.changed.notify_all();
            }
            kept.failures += 1;
            if kept.failures > RESTARTS_MAX {
                tracing::error!(server = %id, log = %log.display(), "ended {} times; it is not started again", kept.failures);
                kept.next_start = None;
                return Ok(());
            }
            let doubled = BACKOFF_MIN * 2u32.pow(kept.failures - 1);
            let pause = doubled.min(BACKOFF_MAX);
            tracing::warn!(server = %id, %status, log = %log.display(), "a server ended; restarting it in {pause:?}");
            kept.next_start = Some(Instant::now() + pause);
        }
        if let Some(started) = kept.started
            && kept.process.is_some()
            && !kept.is_up
            && started.elapsed() > self.settings.start_deadline
        {
            if kept.was_up {
                // It hangs: end it, and the usual path restarts it.
                kept.process.as_ref().map(Process::terminate).unwrap_or_default();
                kept.started = Some(Instant::now());
                return Ok(());
            }
            return Err(StartError::Silent {
                what: what(launch),
                url: url(kept.port),
                waited: self.settings.start_deadline,
                tail: tail(log),
            });
        }
        let is_due =
            kept.next_start.map_or(!kept.was_up && kept.failures == 0, |at| at <= Instant::now());
        if kept.process.is_none() && is_due {
            kept.next_start = None;
            self.start_one(index, kept)
                .map_err(|source| StartError::System { what: what(launch), source })?;
        }
        Ok(())
    }

    fn start_one(&self, index: usize, kept: &mut Kept) -> io::Result<()> {
        let (_, launch, log) = &self.settings.servers[index];
        if kept.port == 0 {
            kept.port = free_port()?;
        }
        kept.process = Some(Process::start(launch, kept.port, log, &self.sentry)?);
        kept.started = Some(Instant::now());
        Ok(())
    }

    /// Asks a starting server whether it is there.
    fn probe(&self, index: usize, port: u16, restarted: &Sender<Restarted>) {
        let id = self.settings.servers[index].0;
        let server = Server { headers: self.settings.headers.clone(), ..Server::new(url(port)) };
        if envmill_openenv::ready(&server, &self.settings.options).is_err() {
            return;
        }
        let mut state = self.lock();
        let kept = &mut state.servers[index];
        // Someone else may have answered on the port of a server that could not take it.
        if kept.process.as_ref().is_none_or(Process::has_ended) {
            return;
        }
        kept.is_up = true;
        let is_first = !kept.was_up;
        kept.was_up = true;
        drop(state);
        self.changed.notify_all();
        if !is_first {
            let description = envmill_openenv::describe(&server, &self.settings.options);
            let fingerprint = description.map(|it| it.fingerprint).unwrap_or_default();
            // A run that is over needs no news.
            let _ = restarted.send(Restarted { server: id, url: server.url, fingerprint });
        }
    }
}

fn url(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

fn what(launch: &Launch) -> String {
    match launch {
        Launch::Shell(line) => line.clone(),
        Launch::Program(program, arguments) => {
            format!("{} {}", program.display(), arguments.join(" "))
        }
    }
}
