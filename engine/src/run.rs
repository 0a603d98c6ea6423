//! A run from its options to its summary.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use envmill_core::{
    Core, EjectionOptions, FingerprintChange, GroupPlan, Input, JobOptions, Note, Options,
    OptionsError, RetryBudget, ServerOptions, Tasks, Time,
};
use envmill_openenv::{DescribeError, Transport};
use envmill_recorder::Recorded;
use envmill_workers::Worker as _;

use crate::{
    children::StartError,
    config::{RunOptions, changed},
    driver::{Control, Driver, Look},
    fleet::{Fleet, FleetWorker, Member},
    flight,
    harness::HarnessError,
    model::{CodeSetup, LanguageModel, ModelError, ModelSetup},
    policy::{Constant, Policy, PolicySpec, Random, Sampler, SchemaError},
    replay::{Recording, RecordingError, Replay},
    report::Summary,
    resume::Earlier,
    sampled::Sampled,
    scorer::{self, RunScorers, ScorerError},
    sink::{self, DirectoryError, GroupSink, OutputDirectory, SinkError},
    tasks::{self, TasksError},
};

/// Descriptors kept free for files, servers' output and the like.
const DESCRIPTORS_APART: u64 = 64;

/// A run cannot begin. Nothing was played and nothing is left behind.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The output directory cannot be used.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// A server cannot be started.
    #[error(transparent)]
    Child(#[from] StartError),
    /// A server does not tell what it serves.
    #[error(transparent)]
    Describe(#[from] DescribeError),
    /// A server does not tell which tools its environment has.
    #[error(transparent)]
    Tools(#[from] envmill_openenv::ToolsError),
    /// The language model cannot play.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The harness cannot play.
    #[error(transparent)]
    Harness(#[from] HarnessError),
    /// The policy cannot play this environment.
    #[error("--policy random cannot draw actions for {url}: {source}; use --policy constant:JSON")]
    Schema {
        /// The server.
        url: String,
        /// Why.
        source: SchemaError,
    },
    /// The directory holds another job.
    #[error(
        "--resume: `{key}` was {before} and is {now}: give it as it was, or begin another job in \
         another --out"
    )]
    Changed {
        /// The setting.
        key: String,
        /// What it was.
        before: serde_json::Value,
        /// What it is now.
        now: serde_json::Value,
    },
    /// The directory's `job.json` is not ours.
    #[error("--resume: job.json cannot be read: {0}")]
    JobFile(serde_json::Error),
    /// There are no tasks to play.
    #[error(transparent)]
    Tasks(#[from] TasksError),
    /// There is no recording to play.
    #[error(transparent)]
    Recording(#[from] RecordingError),
    /// The worker cannot be set up.
    #[error(transparent)]
    Worker(#[from] envmill_openenv::OptionsError),
    /// There is no such native environment.
    #[error("--env native: {0}")]
    Native(Box<envmill_native::EnvironmentError>),
    /// The Python processes cannot be started.
    #[error(transparent)]
    Python(#[from] envmill_python_worker::Error),
    /// The environment tells no number of tasks.
    #[error("--split {split}: {problem}")]
    Split {
        /// The split.
        split: String,
        /// Why.
        problem: String,
    },
    /// So many rounds are no number of episodes.
    #[error("--epochs {epochs}: so many rounds of {tasks} tasks have nothing to play, or too much")]
    Epochs {
        /// How many rounds were asked for.
        epochs: u64,
        /// How many tasks there are.
        tasks: usize,
    },
    /// A scorer does not start.
    #[error(transparent)]
    Scorer(#[from] ScorerError),
    /// The file of rounds cannot be gone on with.
    #[error("--revisit-after: {}: {source}; begin another job in another --out", .path.display())]
    Rounds {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The job cannot be taken on.
    #[error(transparent)]
    Job(#[from] OptionsError),
    /// The process may not open enough sockets.
    #[error(
        "{sessions} sessions need about {needed} file descriptors and this process may have \
         {limit}: raise the limit (`ulimit -n {needed}`) or ask for fewer --sessions"
    )]
    Descriptors {
        /// What was asked for.
        sessions: u32,
        /// What it takes.
        needed: u64,
        /// What there may be.
        limit: u64,
    },
    /// The system refused something at the start.
    #[error("cannot start: {0}")]
    Io(#[from] io::Error),
    /// The flight recording cannot be begun.
    #[error("--flight-recorder: cannot write {}: {source}", .path.display())]
    FlightRecorder {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The histograms cannot be made.
    #[error("cannot measure: {0}")]
    Meter(#[from] hdrhistogram::CreationError),
}

/// What came of a run.
#[derive(Debug)]
pub struct Outcome {
    /// The run in figures.
    pub summary: Summary,
    /// Why some records were not kept.
    pub sink_failure: Option<SinkError>,
    /// What came of the flight recording, if one was asked for.
    pub recorded: Option<Recorded>,
}

/// Plays a job: starts what is to be started, plays every episode and keeps every record. `look` is
/// called after each batch and at least ten times a second; `control` ends the run before its time.
///
/// # Errors
///
/// Nothing was played: an option, a server or the output directory cannot be used.
pub fn run(
    options: &RunOptions,
    control: &Control,
    look: impl FnMut(&Look<'_, FleetWorker>),
) -> Result<Outcome, RunError> {
    check_descriptors(options.limits.sessions)?;
    let mut directory = OutputDirectory::claim(&options.out, options.format, options.claim)?;
    let played = play(options, control, look, &mut directory);
    if played.is_err() {
        directory.abandon();
    }
    played
}

fn play(
    options: &RunOptions,
    control: &Control,
    mut look: impl FnMut(&Look<'_, FleetWorker>),
    directory: &mut OutputDirectory,
) -> Result<Outcome, RunError> {
    let mut job_json = options.to_json();
    let begun = directory.job().map(|text| serde_json::from_str(&text)).transpose();
    let begun: Option<serde_json::Value> = begun.map_err(RunError::JobFile)?;
    is_same_job(begun.as_ref(), &job_json)?;
    let recording = match &options.policy {
        PolicySpec::Replay(path) => Some(Arc::new(Recording::read(path)?)),
        _ => None,
    };
    let is_interrupted = || control.interrupts() > 0;
    // Those that play end before those that score.
    let scorers = RunScorers::start(options, &directory.scorer_logs(), &is_interrupted)?;
    let (mut fleet, mut worker) =
        Fleet::start(options, control, &directory.server_logs(), &is_interrupted)?;
    let tasks = tasks(options, &fleet, &mut worker)?;
    if !tasks.is_empty() {
        job_json["tasks-digest"] = tasks::digest(tasks.as_slice()).into();
    }
    let counted = RunOptions { episodes: episodes(options, &tasks)?, ..options.clone() };
    let options = &counted;
    job_json["episodes"] = options.episodes.into();
    is_same_job(begun.as_ref(), &job_json)?;
    let mut earlier = Earlier::read(options, directory)?;
    let recorded_before = earlier.recorded.len();
    let logs = directory.server_logs();
    let policy = policy(options, &fleet, &mut worker, recording.as_ref(), &logs)?;
    let group_lines = std::mem::take(&mut earlier.group_lines);
    let sampled = sampled(options, directory, &tasks, &group_lines)?;
    let mut core = core(options, &fleet.members);
    let job = JobOptions {
        tasks: sampled.as_ref().map_or(tasks, Sampled::tasks),
        recorded: earlier.recorded.into(),
        recorded_groups: earlier.groups.into(),
        ..job(options)
    };
    let scorer = scorers.as_ref().map(|it| it.scorer(&GroupPlan::of(&job), control));
    let job = core.submit(Time::ZERO, job)?;
    directory.write_job(&format!("{job_json:#}\n"))?;
    let sink = directory.sink()?;
    let recorder = flight::recorder(options, &core)?;
    let groups = options.rules.group.map(|_| directory.group_lines(&group_lines));
    let driver =
        Driver::new(core, vec![job], worker, vec![policy], Box::new(sink), control.clone())?
            .recorded_by(recorder)
            .scored_by(scorer)
            .with_groups(groups.transpose()?.map(|groups| {
                let groups: Box<dyn GroupSink> = Box::new(groups);
                match &sampled {
                    Some(sampled) => sampled.hears(groups),
                    None => groups,
                }
            }));
    let finished = driver.run(|mut at| {
        fleet.look_after(&mut at, options, control);
        for note in at.notes {
            tell(note, options);
            if let (Note::RoundWanted(job), Some(sampled)) = (note, &sampled)
                && let Some(round) = sampled.draw()
            {
                control.send(Input::Round { job: *job, round });
            }
        }
        look(&at);
    });
    let peak = finished.worker.sessions_peak();
    let usage = fleet.stop(&finished.worker);
    let mut summary = Summary::new(&finished, peak, usage, recorded_before);
    summary.scores = scorers.as_ref().map(RunScorers::scores);
    let mut sink_failure = finished.sink_failure;
    if sink_failure.is_none() {
        match sink::close(directory, options.episode_records, recording.as_deref()) {
            Ok(replayed) => summary.replay = replayed,
            Err(error) => sink_failure = Some(error),
        }
    }
    Ok(Outcome { summary, sink_failure, recorded: finished.recorded })
}

fn is_same_job(
    earlier: Option<&serde_json::Value>,
    now: &serde_json::Value,
) -> Result<(), RunError> {
    match earlier.and_then(|earlier| changed(earlier, now)) {
        Some((key, before, now)) => Err(RunError::Changed { key, before, now }),
        None => Ok(()),
    }
}

fn tasks(options: &RunOptions, fleet: &Fleet, worker: &mut FleetWorker) -> Result<Tasks, RunError> {
    let tasks = match (&options.tasks, &options.split) {
        (Some(path), _) => tasks::read(path)?,
        (None, Some(split)) => fleet.tasks_of(split, worker)?,
        (None, None) => return Ok(Tasks::default()),
    };
    Ok(options.sampling.weights.apply(tasks)?)
}

/// How many episodes are asked for: so many, or so many rounds of the tasks.
fn episodes(options: &RunOptions, tasks: &Tasks) -> Result<u64, RunError> {
    let Some(epochs) = options.sampling.epochs else { return Ok(options.episodes) };
    let samples = options.rules.group.map_or(1, |group| u64::from(group.samples));
    let plays = tasks.plays(options.seed, epochs).filter(|plays| *plays > 0);
    let episodes = plays.and_then(|plays| plays.checked_mul(samples));
    episodes.ok_or(RunError::Epochs { epochs, tasks: tasks.len() })
}

/// What draws the tasks by what came of them, if that is asked for.
fn sampled(
    options: &RunOptions,
    directory: &OutputDirectory,
    tasks: &Tasks,
    group_lines: &[u8],
) -> Result<Option<Sampled>, RunError> {
    let Some(revisit) = options.sampling.revisit else { return Ok(None) };
    let path = directory.rounds();
    let opened = Sampled::open(path.clone(), tasks.clone(), options.seed, revisit, group_lines);
    opened.map(Some).map_err(|source| RunError::Rounds { path, source })
}

/// Raises the limit on descriptors as far as it goes, which must do for this many sessions.
pub(crate) fn check_descriptors(sessions: u32) -> Result<(), RunError> {
    let limit = envmill_openenv::raise_descriptor_limit()?;
    let needed = u64::from(sessions) + DESCRIPTORS_APART;
    if needed > limit {
        return Err(RunError::Descriptors { sessions, needed, limit });
    }
    Ok(())
}

fn policy(
    options: &RunOptions,
    fleet: &Fleet,
    worker: &mut FleetWorker,
    recording: Option<&Arc<Recording>>,
    logs: &Path,
) -> Result<Box<dyn Policy>, RunError> {
    if let Some(recording) = recording {
        return Ok(Box::new(Replay::new(Arc::clone(recording))));
    }
    Ok(match &options.policy {
        PolicySpec::Constant(action) => Box::new(Constant::new(action.clone())),
        // A replay has its recording and was returned above.
        PolicySpec::Random | PolicySpec::Replay(_) => {
            Box::new(Random::new(vec![sampler(fleet, worker)?]))
        }
        PolicySpec::Model(_) => Box::new(model(options, fleet, worker, logs)?),
    })
}

/// The language model of options that name one. What an agent in code prints goes to `logs`.
pub(crate) fn model(
    options: &RunOptions,
    fleet: &Fleet,
    worker: &mut FleetWorker,
    logs: &Path,
) -> Result<LanguageModel, RunError> {
    let PolicySpec::Model(spec) = &options.policy else {
        return Err(ModelError::None(options.policy.to_string()).into());
    };
    let agent = options.agent.as_deref().map(ModelSetup::read_agent).transpose()?;
    // Over POST /mcp all steps are calls of tools.
    if options.transport == Transport::Ws
        && agent.as_ref().is_some_and(|agent| agent.tools.from_environment)
        && Sampler::has_tools_beside(&fleet.action_schema)
    {
        worker.call_tools_beside();
    }
    let code = CodeSetup {
        interpreter: options.python.clone().unwrap_or_else(|| "python3".into()),
        path: options.python_path.clone(),
        logs: logs.to_owned(),
    };
    let setup = ModelSetup { spec: spec.clone(), agent, code, script: None };
    Ok(setup.start(&fleet.action_schema, worker.waker())?)
}

/// What draws actions for the environment of a fleet.
pub(crate) fn sampler(fleet: &Fleet, worker: &mut FleetWorker) -> Result<Sampler, RunError> {
    let schema = &fleet.action_schema;
    let tools = if Sampler::takes_tools(schema) { fleet.tools(worker)? } else { Vec::new() };
    Sampler::compile_with_tools(schema, &tools).map_err(|source| RunError::Schema {
        url: fleet.members.first().map(|server| server.name.clone()).unwrap_or_default(),
        source,
    })
}

/// A core with the servers of a fleet, and no jobs.
pub(crate) fn core(options: &RunOptions, servers: &[Member]) -> Core {
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let mut core = Core::new(Options {
        run_started_unix_us: u64::try_from(since_1970.as_micros()).unwrap_or(u64::MAX),
        seed: options.seed,
        slots_max: options.limits.sessions.max(1),
        ejection: EjectionOptions {
            percent_max: options.rules.ejected_percent_max,
            ..EjectionOptions::default()
        },
        server_retry_budget: retry_budget(options),
        steps_bytes_max: steps_bytes_max(options),
        ..Options::default()
    });
    for server in servers {
        core.add_server(ServerOptions {
            name: server.name.clone(),
            environment: 0,
            fingerprint: server.fingerprint.clone(),
        });
    }
    core
}

/// The most bytes of memory that what is played of the episodes under way may take together.
pub(crate) fn steps_bytes_max(options: &RunOptions) -> u64 {
    match options.episodes_mib_max {
        Some(mib) => mib.saturating_mul(1 << 20),
        None => envmill_python_worker::machine_memory().map_or(u64::MAX, |bytes| bytes / 2),
    }
}

/// A job as the options describe it, without its tasks and what is recorded of it.
pub(crate) fn job(options: &RunOptions) -> JobOptions {
    let rules = &options.rules;
    JobOptions {
        name: options.name.clone(),
        environment: 0,
        environment_name: options.sources.first().map(ToString::to_string).unwrap_or_default(),
        episodes: options.episodes,
        sessions_max: options.limits.sessions,
        seed: options.seed,
        send_seed: options.send_seed,
        reset_parameters: options.reset_parameters.clone(),
        max_steps: options.limits.max_steps,
        episode_bytes_max: options.limits.episode_bytes_max,
        deadlines: options.limits.deadlines,
        attempts_max: options.limits.attempts,
        session_reuse: options.limits.session_reuse,
        on_fingerprint_change: options.on_fingerprint_change,
        group: rules.group,
        on_environment_error: rules.on_environment_error,
        production: rules.production,
        idempotent: rules.idempotent,
        retry_budget: retry_budget(options),
        scoring: scorer::scoring(&options.scorers),
        ..JobOptions::default()
    }
}

fn retry_budget(options: &RunOptions) -> RetryBudget {
    RetryBudget { percent: options.rules.retry_budget_percent, ..RetryBudget::default() }
}

fn tell(note: &Note, options: &RunOptions) {
    match note {
        Note::LimitLearned { server, limit } => {
            tracing::info!(server = server.0, limit, "a server's limit was learned");
        }
        Note::ServerDown { server, failure } => {
            tracing::warn!(server = server.0, %failure, "a server gives no sessions");
        }
        Note::ServerRecovered(server) => tracing::warn!(server = server.0, "a server is back"),
        Note::FingerprintChanged { server, before, after } => {
            let what = format!(
                "server {server} serves another environment than at the start: its fingerprint was \
                 {before} and is {after}"
            );
            match options.on_fingerprint_change {
                FingerprintChange::Stop => tracing::error!(
                    "{what}; the run is stopped. To go on and mark the records instead, use \
                     --on-fingerprint-change mark"
                ),
                FingerprintChange::Mark => tracing::warn!("{what}"),
            }
        }
        Note::AttemptFailed { server, failure } => {
            tracing::info!(server = server.0, %failure, "an attempt failed");
        }
        Note::JobBudgetSpent(_) => {
            tracing::warn!("the job's retry budget is spent: failures are final for now");
        }
        Note::ServerBudgetSpent(server) => {
            tracing::warn!(server = server.0, "the retry budget of a server is spent");
        }
        Note::FirstObservationsDiffer { group, .. } => tracing::warn!(
            group,
            "members of a group begin differently though their seed is the same: the server may drop \
             seeds"
        ),
        Note::ServerEjected { server, why, rest } => {
            tracing::warn!(server = server.0, ?why, ?rest, "a server does unlike its pool");
        }
        Note::ServerReturned(server) => {
            tracing::warn!(server = server.0, "a server that was left alone is back");
        }
        Note::Quarantined(failure) => tracing::warn!(%failure, "a task is given up"),
        Note::RoundWanted(_) | Note::JobEnded(_) => {}
        Note::VersionCurrent { version, .. } => {
            tracing::info!(version = version.0, "the job is on another policy version");
        }
    }
}

/// Failures by cause, as they are counted while records pass.
pub(crate) type Failures = BTreeMap<String, u64>;
