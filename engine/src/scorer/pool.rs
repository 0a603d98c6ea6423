//! Scorers at work: a queue for each, and threads that take batches from it.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt, io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, RecvTimeoutError, Sender},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::{
    Item, ScorerOptions, Source,
    attempts::{Attempts, Unscored},
    http::HttpCaller,
};
use crate::{
    callable::{Caller, Fault, Launch, PythonCaller},
    children::Sentry,
};

/// How a scorer's process answers.
const PROGRAM: &str = include_str!("runner.py");

/// How often it is looked whether a start is still wanted.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Scorers cannot be started. Nothing is left running.
#[derive(Debug, thiserror::Error)]
pub enum ScorerError {
    /// One of them does not start.
    #[error("`scorers.{name}`: {problem}")]
    NotStarted {
        /// Its name.
        name: String,
        /// Why.
        problem: String,
    },
    /// The system has no thread left.
    #[error("cannot start the threads of scorers: {0}")]
    Threads(#[from] io::Error),
    /// It was told to end meanwhile.
    #[error("told to end while the scorers were starting")]
    Stopped,
}

/// The scorers of a configuration. Dropping it ends their processes; what waits for a score gets none.
pub struct ScorerPools {
    pools: BTreeMap<String, Pool>,
    is_over: Arc<AtomicBool>,
    /// Those that do not wait for a server.
    threads: Vec<JoinHandle<()>>,
}

impl fmt::Debug for ScorerPools {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.pools.keys()).finish()
    }
}

impl ScorerPools {
    /// Starts these scorers: processes are there and have imported what they need, servers are not asked
    /// before there is something to score. What processes print goes into `logs`. `is_stopped` ends the
    /// waiting.
    ///
    /// # Errors
    ///
    /// A process does not start, or `is_stopped`.
    pub fn start(
        options: &[ScorerOptions],
        logs: &Path,
        is_stopped: &dyn Fn() -> bool,
    ) -> Result<Self, ScorerError> {
        let is_over = Arc::new(AtomicBool::new(false));
        let mut pools = Self { pools: BTreeMap::new(), is_over, threads: Vec::new() };
        let is_python = |it: &ScorerOptions| matches!(it.source, Source::Python { .. });
        let sentry = options.iter().any(is_python).then(|| Arc::new(Sentry::post()));
        let (started, results) = mpsc::channel();
        for options in options {
            let log = logs.join(format!("{}.log", options.name));
            pools.start_one(options, &log, sentry.as_ref(), &started)?;
        }
        drop(started);
        loop {
            match results.recv_timeout(LOOK_EVERY) {
                Ok((_, Ok(()))) => {}
                Ok((name, Err(Fault { message: problem, .. }))) => {
                    return Err(ScorerError::NotStarted { name, problem });
                }
                Err(RecvTimeoutError::Timeout) if is_stopped() => return Err(ScorerError::Stopped),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(pools),
            }
        }
    }

    fn start_one(
        &mut self,
        options: &ScorerOptions,
        log: &Path,
        sentry: Option<&Arc<Sentry>>,
        started: &Sender<(String, Result<(), Fault>)>,
    ) -> Result<(), ScorerError> {
        let pool = Pool(Arc::new(Shared {
            options: options.clone(),
            is_over: Arc::clone(&self.is_over),
            queue: Mutex::default(),
            changed: Condvar::new(),
        }));
        self.pools.insert(options.name.clone(), pool.clone());
        for number in 0..options.workers() {
            let thread = thread::Builder::new().name(format!("{}-{number}", options.name));
            let pool = pool.clone();
            match &options.source {
                Source::Http(server) => {
                    let caller = HttpCaller::new(server, options.timeout);
                    let mut caller = caller.map_err(|error| ScorerError::NotStarted {
                        name: options.name.clone(),
                        problem: error.to_string(),
                    })?;
                    // It ends when its server has answered.
                    drop(thread.spawn(move || pool.work(&mut caller))?);
                }
                Source::Python { function, interpreter, path, .. } => {
                    let Some(sentry) = sentry else { continue };
                    let launch = Launch {
                        program: PROGRAM,
                        function: function.clone(),
                        interpreter: interpreter.clone().unwrap_or_else(|| "python3".into()),
                        path: path.clone(),
                        log: log.to_owned(),
                        sentry: Arc::clone(sentry),
                        is_over: Arc::clone(&self.is_over),
                    };
                    let mut caller = PythonCaller::new(launch, options.timeout);
                    let started = started.clone();
                    self.threads.push(thread.spawn(move || {
                        let name = pool.options().name.clone();
                        // Nobody listens when another one has failed.
                        let _ = started.send((name, caller.start().map(drop)));
                        drop(started);
                        pool.work(&mut caller);
                    })?);
                }
            }
        }
        Ok(())
    }

    /// All of them, by name.
    pub(crate) fn pools(&self) -> BTreeMap<String, Pool> {
        self.pools.clone()
    }
}

impl Drop for ScorerPools {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        for pool in self.pools.values() {
            // Under the lock, so that nobody looks before and waits after.
            let mut queue = pool.queue();
            queue.clear();
            pool.0.changed.notify_all();
        }
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// One scorer. A clone is the same one.
#[derive(Clone)]
pub(crate) struct Pool(Arc<Shared>);

struct Shared {
    options: ScorerOptions,
    is_over: Arc<AtomicBool>,
    /// What waits, each part to be kept together. As many episodes as jobs' `in-flight-max` allow.
    queue: Mutex<VecDeque<Vec<Item>>>,
    changed: Condvar,
}

impl Pool {
    pub(crate) fn options(&self) -> &ScorerOptions {
        &self.0.options
    }

    /// Takes episodes that are to be scored in one batch.
    pub(crate) fn submit_together(&self, items: Vec<Item>) {
        if !items.is_empty() {
            self.queue().push_back(items);
            // Some of those who wait are not waiting for this.
            self.0.changed.notify_all();
        }
    }

    /// Takes episodes that are to be scored each for itself.
    pub(crate) fn submit(&self, items: Vec<Item>) {
        if !items.is_empty() {
            self.queue().extend(items.into_iter().map(|item| vec![item]));
            self.0.changed.notify_all();
        }
    }

    /// What each thread does.
    fn work(&self, caller: &mut dyn Caller) {
        while let Some(batch) = self.take() {
            let mut attempts =
                Attempts { options: self.options(), caller, pause: &|pause| self.pause(pause) };
            let scored = catch_unwind(AssertUnwindSafe(|| attempts.score(&batch)));
            if scored.is_err() {
                // One that was answered already is not answered by this.
                let message = format!("scorer {}: a panic of the engine", self.options().name);
                batch.iter().for_each(|item| item.answer(Err(message.clone())));
            }
        }
    }

    /// Waits for the next batch; `None` at the end.
    fn take(&self) -> Option<Vec<Item>> {
        let mut queue = self.queue();
        loop {
            if self.is_over() {
                return None;
            }
            let batch = self.next(&mut queue);
            if !batch.is_empty() {
                return Some(batch);
            }
            queue = self.0.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Takes this thread's share of what waits.
    fn next(&self, queue: &mut VecDeque<Vec<Item>>) -> Vec<Item> {
        let options = self.options();
        queue.retain(|items| items.iter().any(Item::is_wanted));
        if options.group {
            let mut group = queue.pop_front().unwrap_or_default();
            group.retain(Item::is_wanted);
            return group;
        }
        let share = queue.len().div_ceil(options.workers() as usize);
        let count = share.min(options.batch_max);
        queue.drain(..count).flatten().collect()
    }

    /// Waits; false if it is over.
    fn pause(&self, pause: Duration) -> bool {
        let until = Instant::now() + pause;
        let mut queue = self.queue();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if self.is_over() || left.is_zero() {
                return !self.is_over();
            }
            let waited = self.0.changed.wait_timeout(queue, left);
            queue = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn is_over(&self) -> bool {
        self.0.is_over.load(Ordering::Relaxed)
    }

    fn queue(&self) -> MutexGuard<'_, VecDeque<Vec<Item>>> {
        // A panic under the lock leaves nothing half done.
        self.0.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
