//! Whoever plays the jobs of one environment: a fleet and a driver on a thread of their own.

use std::{
    any::Any,
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{self, SyncSender},
    },
    thread::{self, JoinHandle, Thread},
    time::{Duration, Instant},
};

use bytes::Bytes;
use envmill_core::{GroupPlan, Input, JobOptions, Note, OptionsError, SessionReuse, Task};
use envmill_delivery::JobKey;
use envmill_protocol::{JobId, Trajectory, record::GroupRecord};
use envmill_service::{Environment, JobPolicy, Order, Played, Player, Snapshot};
use envmill_workers::{Wake, Waker, Worker as _};

use super::{
    EnvironmentOptions, JobPolicies, ServeError, Stop, beginnings::Beginnings, scorers::JobScorers,
    warnings::warning,
};
use crate::{
    config::RunOptions,
    driver::{Control, Driver, Errand, Look},
    fleet::{Fleet, FleetWorker},
    harness::{self, Harness, HarnessOptions},
    model::ModelPolicy,
    policy::{PolicySpec, Sampler},
    run::{self, RunError},
    scorer::{Pool, ScorerPools},
    sink::{GroupSink, Sink, SinkError},
};

/// How long a snapshot is good for.
const SNAPSHOT_PERIOD: Duration = Duration::from_millis(100);

/// Plays the jobs of one environment: its servers, a core and a driver, on a thread that has the
/// environment's name. Dropping it stops them: what is unfinished is neither recorded nor told.
///
/// A panic of that thread ends the environment and nothing else: it is logged and told as the warning
/// `player_failed`, jobs that were under way are told of no more, and new ones are refused.
pub struct FleetPlayer {
    control: Control,
    shared: Arc<Shared>,
    defaults: JobOptions,
    steps_bytes_max: u64,
    action_schema: Bytes,
    splits: Splits,
    thread: Option<JoinHandle<()>>,
}

impl std::fmt::Debug for FleetPlayer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FleetPlayer").field("name", &self.shared.name).finish_non_exhaustive()
    }
}

/// What the player's handle and its thread have in common.
struct Shared {
    name: String,
    jobs: Mutex<Jobs>,
    policies: JobPolicies,
    scorers: JobScorers,
    /// Of a harness: what it knows of its jobs.
    harness: Option<harness::Jobs>,
    tell: Mutex<Box<dyn FnMut(Played) + Send>>,
    snapshot: Mutex<Snapshot>,
    rounds: AtomicU64,
    has_failed: AtomicBool,
}

/// The names of jobs that have not ended, both ways.
#[derive(Default)]
struct Jobs {
    ids: BTreeMap<JobKey, JobId>,
    keys: BTreeMap<JobId, JobKey>,
}

/// What the thread says once everything stands.
struct Begun {
    shared: Arc<Shared>,
    action_schema: Bytes,
    splits: Splits,
}

/// The tasks of an environment's own splits, or for people why there are none.
type Splits = BTreeMap<String, Result<Vec<Task>, String>>;

impl FleetPlayer {
    /// Starts the servers of an environment, as far as they are to be started, asks them what they
    /// serve, and waits for jobs, which may name these scorers. What is started writes its output into `logs`. `tell` is called on the
    /// player's thread, and delays its episodes while it blocks.
    ///
    /// # Errors
    ///
    /// The environment cannot be used, or `stop` was asked for meanwhile. Nothing is left running.
    pub fn start(
        environment: &EnvironmentOptions,
        scorers: Option<&ScorerPools>,
        logs: &Path,
        stop: &Stop,
        tell: impl FnMut(Played) + Send + 'static,
    ) -> Result<Self, ServeError> {
        let named = |source: RunError| {
            let (name, source) = (environment.name.clone(), Box::new(source));
            match environment.harness {
                Some(_) => ServeError::Harness { name, source },
                None => ServeError::Environment { name, source },
            }
        };
        let control = Control::new();
        let (begun, has_begun) = mpsc::sync_channel(1);
        let thread = {
            let (environment, control, stop) = (environment.clone(), control.clone(), stop.clone());
            let logs = logs.to_owned();
            let scorers = scorers.map(ScorerPools::pools).unwrap_or_default();
            thread::Builder::new()
                .name(environment.name.clone())
                .spawn(move || {
                    let start = Start {
                        environment: &environment,
                        scorers,
                        control: &control,
                        logs: &logs,
                        stop: &stop,
                    };
                    play(start, Box::new(tell), &begun);
                })
                .map_err(|error| named(error.into()))?
        };
        let begun = has_begun.recv().unwrap_or_else(|_| {
            let why = "its thread has panicked at the start";
            Err(RunError::Io(std::io::Error::other(why)))
        });
        match begun {
            Ok(Begun { shared, action_schema, splits }) => Ok(Self {
                control,
                shared,
                defaults: environment.defaults(),
                steps_bytes_max: run::steps_bytes_max(&environment.run),
                action_schema,
                splits,
                thread: Some(thread),
            }),
            Err(error) => {
                // Its panic, if it was one, was shown when it happened.
                let _ = thread.join();
                Err(named(error))
            }
        }
    }

    /// The environment with this player, as the service takes it.
    #[must_use]
    pub fn into_environment(self) -> Environment {
        Environment {
            name: self.shared.name.clone(),
            sessions_max: self.defaults.sessions_max,
            steps_bytes_max: self.steps_bytes_max,
            defaults: self.defaults.clone(),
            action_schema: self.action_schema.clone(),
            is_harness: self.shared.harness.is_some(),
            player: Box::new(self),
        }
    }

    /// The JSON Schema of an action.
    #[must_use]
    pub fn action_schema(&self) -> &Bytes {
        &self.action_schema
    }

    /// The tasks of a split of the environment's own that it was asked for at its start
    /// ([`EnvironmentOptions::splits`]).
    ///
    /// # Errors
    ///
    /// The environment has no such tasks: why, for people.
    pub fn split(&self, split: &str) -> Result<Vec<Task>, String> {
        self.splits.get(split).cloned().unwrap_or_else(|| Ok(Vec::new()))
    }

    /// How often its loop has gone round: some ten times a second when there is nothing to do.
    #[must_use]
    pub fn rounds(&self) -> u64 {
        self.shared.rounds.load(Ordering::Relaxed)
    }

    /// Ends it without waiting for that; [dropping](Drop) it does wait.
    pub(super) fn stopper(&self) -> Control {
        self.control.clone()
    }

    /// What the service cannot know of a job; and what a harness is to know of it.
    fn complete(&self, options: &mut JobOptions) -> harness::Job {
        let ours = &self.defaults;
        options.environment = 0;
        options.environment_name.clone_from(&self.shared.name);
        options.sessions_max = match options.sessions_max {
            0 => ours.sessions_max,
            asked => asked.min(ours.sessions_max),
        };
        options.on_fingerprint_change = ours.on_fingerprint_change;
        options.production |= ours.production;
        options.idempotent |= ours.idempotent;
        if ours.session_reuse == SessionReuse::Never {
            options.session_reuse = SessionReuse::Never;
        }
        match self.shared.harness {
            Some(_) => harness::Job::of(options),
            None => harness::Job::default(),
        }
    }
}

impl Player for FleetPlayer {
    fn submit(
        &self,
        job: JobKey,
        mut options: JobOptions,
        policy: JobPolicy,
        scorer: Option<String>,
    ) {
        let shared = Arc::clone(&self.shared);
        if let Some(problem) = shared.policies.problem(&policy) {
            // In its turn, and on the thread that tells everything else.
            self.control.send_later(move || {
                shared.tell(Played::Refused(job, problem));
                None
            });
            return;
        }
        let its = self.complete(&mut options);
        let (name, plan) = (options.name.clone(), GroupPlan::of(&options));
        self.control.submit(options, move |submitted| {
            if let (Ok(id), Some(scorer)) = (&submitted, scorer) {
                shared.scorers.add(*id, name, &scorer, &plan);
            }
            if let (Ok(id), Some(jobs)) = (&submitted, &shared.harness) {
                jobs.add(*id, its);
            }
            shared.submitted(job, policy, submitted);
        });
    }

    fn order(&self, job: JobKey, order: Order) {
        let shared = Arc::clone(&self.shared);
        self.control.send_later(move || {
            let job = shared.jobs().ids.get(&job).copied();
            if let Order::Weights(weights) = order {
                shared.policies.weights(job, weights);
                return None;
            }
            let job = job?;
            Some(match order {
                Order::Weights(_) => return None,
                Order::Version(version, in_flight) => {
                    Input::PolicyVersion { job, version, in_flight }
                }
                Order::Round(round) => Input::Round { job, round },
                Order::Pause => Input::Pause(job),
                Order::Slow => Input::Slow(job),
                Order::Resume => Input::Resume(job),
                Order::Hold => Input::Hold(job),
                Order::Drain => Input::Drain(job),
                Order::Cancel => Input::Cancel(job),
            })
        });
    }

    fn snapshot(&self) -> Snapshot {
        lock(&self.shared.snapshot).clone()
    }
}

impl Drop for FleetPlayer {
    fn drop(&mut self) {
        self.control.stop();
        if let Some(thread) = self.thread.take() {
            // Whatever became of it was told.
            let _ = thread.join();
        }
    }
}

/// What a player's thread begins with.
struct Start<'a> {
    environment: &'a EnvironmentOptions,
    scorers: BTreeMap<String, Pool>,
    control: &'a Control,
    logs: &'a Path,
    stop: &'a Stop,
}

/// The player's thread.
fn play(
    start: Start<'_>,
    tell: Box<dyn FnMut(Played) + Send>,
    begun: &SyncSender<Result<Begun, RunError>>,
) {
    let EnvironmentOptions { name, run: options, .. } = start.environment;
    let control = start.control;
    let (mut fleet, shared, driver, splits) = match begin(start, tell) {
        Ok(all) => all,
        Err(error) => {
            let _ = begun.send(Err(error));
            return;
        }
    };
    let action_schema = fleet.action_schema.clone();
    let all = Begun { shared: Arc::clone(&shared), action_schema, splits };
    if begun.send(Ok(all)).is_err() {
        return;
    }
    let servers: Vec<String> = fleet.members.iter().map(|member| member.name.clone()).collect();
    let mut published: Option<Instant> = None;
    let played = catch_unwind(AssertUnwindSafe(|| {
        driver.run(|mut at| {
            shared.rounds.fetch_add(1, Ordering::Relaxed);
            fleet.look_after(&mut at, options, control);
            for note in at.notes {
                shared.note(note, &servers, options);
            }
            if published.is_none_or(|at| at.elapsed() >= SNAPSHOT_PERIOD) {
                published = Some(Instant::now());
                shared.publish(&at);
            }
        })
    }));
    match played {
        Ok(finished) => {
            fleet.stop(&finished.worker);
        }
        Err(panic) => {
            let why = message(&*panic);
            tracing::error!(
                environment = name,
                why,
                "the thread that plays an environment has panicked"
            );
            drop(fleet);
            shared.has_failed.store(true, Ordering::Release);
            shared.tell(Played::Warning {
                job: None,
                kind: "player_failed",
                message: format!(
                    "the environment {name} is played no more, until the service is started again: {why}"
                ),
            });
            refuse_all(control);
        }
    }
}

/// Starts everything that a player needs.
fn begin(
    start: Start<'_>,
    tell: Box<dyn FnMut(Played) + Send>,
) -> Result<(Fleet, Arc<Shared>, Driver<FleetWorker>, Splits), RunError> {
    let Start { environment, scorers, control, logs, stop } = start;
    let EnvironmentOptions { name, run: options, splits, harness } = environment;
    let (fleet, mut worker) = match harness {
        Some(harness) => Fleet::of_harness(harness),
        None => Fleet::start(options, control, logs, &|| stop.is_asked())?,
    };
    let tasks_of = |split: &String| {
        let tasks = fleet.tasks_of(split, &mut worker).map_err(|error| error.to_string());
        (split.clone(), tasks)
    };
    let splits = splits.iter().map(tasks_of).collect();
    let (sampler, Model { model, harness }) = match harness {
        Some(harness) => of_harness(name, harness, logs, worker.waker())?,
        None => {
            (sampler(name, &fleet, &mut worker), model(name, options, &fleet, &mut worker, logs)?)
        }
    };
    // The model tells of its failures when all else is there.
    let warned = Arc::new(OnceLock::<Weak<Shared>>::new());
    let warn = Arc::clone(&warned);
    let policies = JobPolicies::new(sampler, model, worker.waker(), move |message| {
        tracing::warn!("{message}");
        if let Some(shared) = warn.get().and_then(Weak::upgrade) {
            shared.tell(Played::Warning { job: None, kind: "model_version", message });
        }
    });
    let scorers = JobScorers::new(scorers, control.clone());
    let shared = Arc::new(Shared {
        name: name.clone(),
        jobs: Mutex::default(),
        policies: policies.clone(),
        scorers: scorers.clone(),
        harness,
        tell: Mutex::new(tell),
        snapshot: Mutex::default(),
        rounds: AtomicU64::new(0),
        has_failed: AtomicBool::new(false),
    });
    // It is empty: nobody else has it.
    let _ = warned.set(Arc::downgrade(&shared));
    let policies = {
        let shared = Arc::clone(&shared);
        Beginnings::new(policies, move |job, episodes| shared.begun(job, episodes))
    };
    let core = run::core(options, &fleet.members);
    let sink = Box::new(Teller::new(&shared));
    let driver =
        Driver::new(core, Vec::new(), worker, vec![Box::new(policies)], sink, control.clone())?
            .with_groups(Some(Box::new(Teller::new(&shared))))
            .scored_by(Some(Box::new(scorers)))
            .stays();
    Ok((fleet, shared, driver, splits))
}

/// What draws random actions for an environment, or why nothing does.
fn sampler(name: &str, fleet: &Fleet, worker: &mut FleetWorker) -> Result<Sampler, String> {
    run::sampler(fleet, worker).map_err(|error| {
        let why = match error {
            RunError::Schema { source, .. } => source.to_string(),
            other => other.to_string(),
        };
        tracing::info!(environment = name, why, "no random actions can be drawn");
        format!(
            "policy: random actions cannot be drawn for {name}: {why}; use a constant one, or be the \
             policy yourself"
        )
    })
}

/// Who plays the jobs whose policy is the model.
struct Model {
    /// Why there is none, if so.
    model: Result<Box<dyn ModelPolicy>, String>,
    /// If programs do: what they know of jobs.
    harness: Option<harness::Jobs>,
}

fn model(
    name: &str,
    options: &RunOptions,
    fleet: &Fleet,
    worker: &mut FleetWorker,
    logs: &Path,
) -> Result<Model, RunError> {
    let model: Result<Box<dyn ModelPolicy>, String> = match &options.policy {
        PolicySpec::Model(_) => Ok(Box::new(run::model(options, fleet, worker, logs)?)),
        _ => Err(format!(
            "policy: {name} has no language model; give it one with `policy` in `environments.{name}`"
        )),
    };
    Ok(Model { model, harness: None })
}

fn of_harness(
    name: &str,
    options: &HarnessOptions,
    logs: &Path,
    waker: Waker,
) -> Result<(Result<Sampler, String>, Model), RunError> {
    let harness = Harness::start(name, options, logs, waker)?;
    let jobs = harness.jobs();
    let no_sampler = format!("policy: {name} is a harness, which is played by its programs alone");
    Ok((Err(no_sampler), Model { model: Ok(Box::new(harness)), harness: Some(jobs) }))
}

impl Shared {
    fn jobs(&self) -> MutexGuard<'_, Jobs> {
        lock(&self.jobs)
    }

    fn tell(&self, played: Played) {
        lock(&self.tell)(played);
    }

    fn submitted(&self, job: JobKey, policy: JobPolicy, submitted: Result<JobId, OptionsError>) {
        match submitted {
            Ok(id) => {
                let mut jobs = self.jobs();
                jobs.ids.insert(job, id);
                jobs.keys.insert(id, job);
                drop(jobs);
                self.policies.add(id, policy);
            }
            Err(error) => {
                let why = if self.has_failed.load(Ordering::Acquire) {
                    format!("the environment {} has failed: start the service again", self.name)
                } else {
                    error.to_string()
                };
                self.tell(Played::Refused(job, why));
            }
        }
    }

    /// Attempts at these episodes begin.
    fn begun(&self, job: JobId, episodes: Vec<u64>) {
        // One that has ended, or is about to be refused, has nothing to tell.
        if let Some(job) = self.key(job) {
            self.tell(Played::Begun(job, episodes));
        }
    }

    /// Passes on what the core has to tell. What it tells of a job comes after that job's records.
    fn note(&self, note: &Note, servers: &[String], options: &RunOptions) {
        match note {
            Note::JobEnded(id) => {
                let mut jobs = self.jobs();
                let job = jobs.keys.remove(id);
                if let Some(job) = job {
                    jobs.ids.remove(&job);
                }
                drop(jobs);
                self.policies.remove(*id);
                self.scorers.remove(*id);
                if let Some(jobs) = &self.harness {
                    jobs.remove(*id);
                }
                if let Some(job) = job {
                    self.tell(Played::Ended(job));
                }
            }
            Note::VersionCurrent { job, version } => {
                self.policies.set_version(*job, *version);
                if let Some(job) = self.key(*job) {
                    self.tell(Played::VersionCurrent(job, *version));
                }
            }
            Note::RoundWanted(job) => {
                if let Some(job) = self.key(*job) {
                    self.tell(Played::RoundWanted(job));
                }
            }
            Note::AttemptFailed { server, failure } => {
                tracing::info!(environment = self.name, server = server.0, %failure, "an attempt failed");
            }
            _ => {}
        }
        let Some(warning) = warning(note, servers, options.on_fingerprint_change) else { return };
        let (kind, message) = (warning.kind, warning.message);
        tracing::warn!(environment = self.name, kind, "{message}");
        let job = match warning.job {
            None => None,
            // Nobody is there to be warned of a job that has ended.
            Some(id) => match self.key(id) {
                None => return,
                job => job,
            },
        };
        self.tell(Played::Warning { job, kind, message });
    }

    fn key(&self, id: JobId) -> Option<JobKey> {
        self.jobs().keys.get(&id).copied()
    }

    fn publish(&self, at: &Look<'_, FleetWorker>) {
        let servers = at.core.servers().map(|(server, status)| (server.name.clone(), status));
        let counts = at.core.counts();
        let jobs = self.jobs();
        let status = |(&job, &id)| Some((job, at.core.job_status(id)?));
        let snapshot = Snapshot {
            servers: servers.collect(),
            jobs: jobs.ids.iter().filter_map(status).collect(),
            sessions: counts.sessions,
            memory: at.core.memory(),
            steps: counts.steps,
        };
        drop(jobs);
        *lock(&self.snapshot) = snapshot;
    }
}

/// Tells records to the service, which keeps them.
struct Teller {
    shared: Arc<Shared>,
    told: u64,
}

impl Teller {
    fn new(shared: &Arc<Shared>) -> Self {
        Self { shared: Arc::clone(shared), told: 0 }
    }
}

impl Sink for Teller {
    fn submit(&mut self, records: &mut Vec<Trajectory>) {
        if !records.is_empty() {
            self.told += records.len() as u64;
            self.shared.tell(Played::Records(std::mem::take(records)));
        }
    }

    fn written(&self) -> u64 {
        self.told
    }

    fn failure(&self) -> Option<SinkError> {
        None
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        Ok(())
    }
}

impl GroupSink for Teller {
    /// Told at once: the records of the members were told before.
    fn submit(&mut self, groups: &mut Vec<GroupRecord>, _submitted: u64) {
        if !groups.is_empty() {
            self.told += groups.len() as u64;
            self.shared.tell(Played::Groups(std::mem::take(groups)));
        }
    }

    fn advance(&mut self, _kept: u64) {}

    fn written(&self) -> u64 {
        self.told
    }

    fn failure(&self) -> Option<SinkError> {
        None
    }

    fn finish(&mut self, _kept: u64) {}
}

/// Refuses every job until the player is dropped.
fn refuse_all(control: &Control) {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(&self) {
            self.0.unpark();
        }
    }
    control.attach(Waker::new(Arc::new(Unpark(thread::current()))));
    let mut errands = Vec::new();
    while !control.is_stopped() {
        control.take(&mut errands);
        for errand in errands.drain(..) {
            match errand {
                // What it would say to the core is for nobody; it may have something to tell.
                Errand::Later(input) => drop(input()),
                // Which error it is does not matter: why is known.
                Errand::Submit(_, then) => then(Err(OptionsError::NoServer(0))),
                Errand::Input(_) => {}
            }
        }
        thread::park();
    }
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("a panic")
}

/// A panic under one of these locks leaves nothing half done.
fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
