//! The rollout service's side of the engine: environments that are played for trainers.
//!
//! Start at [`serve()`], which plays the environments of a [`ServeOptions`] until it is told to
//! [`Stop`]. Each environment has a [`FleetPlayer`]; what trainers are told and owed is the crate
//! `envmill-service`'s.

mod beginnings;
mod check;
mod config;
mod player;
mod policies;
mod scorers;
mod stop;
mod task_sets;
mod tokens;
mod traces;
mod warnings;

use std::{fs, io, net::SocketAddr, path::PathBuf, thread};

use envmill_core::Tasks;
use envmill_service::{Certificate, Environment, Opened, Played, StartError};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};

pub(crate) use self::config::JOURNAL;
pub use self::{
    check::{Checked, check},
    config::{EnvironmentOptions, Overrides, ServeConfigError, ServeOptions, TlsFiles},
    player::FleetPlayer,
    stop::Stop,
    task_sets::{TaskSet, TaskSource},
    tokens::{Tokens, TokensError},
};
use self::{policies::JobPolicies, traces::Traces};
pub use crate::harness::{HarnessError, HarnessOptions, Launch, Players};
use crate::{
    driver::Control,
    run::RunError,
    scorer::{ScorerError, ScorerPools},
    tasks::TasksError,
};

/// A service cannot begin, or cannot go on. Nothing is left running.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// An environment cannot be played.
    #[error("`environments.{name}`: {source}")]
    Environment {
        /// Its name.
        name: String,
        /// Why.
        source: Box<RunError>,
    },
    /// A harness cannot play.
    #[error("`harnesses.{name}`: {source}")]
    Harness {
        /// Its name.
        name: String,
        /// Why.
        source: Box<RunError>,
    },
    /// This process may not have what all environments together need.
    #[error(transparent)]
    Limits(Box<RunError>),
    /// The store is no directory.
    #[error("the store {} is no directory: choose another `store`", .0.display())]
    Store(PathBuf),
    /// The store cannot be made.
    #[error("cannot make the store {}: {source}; choose another `store`", .path.display())]
    Unwritable {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// An address cannot be had.
    #[error("`service.{key}`: cannot listen on {address}: {source}; choose another one")]
    Listen {
        /// The key.
        key: &'static str,
        /// What it says.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The service does not start, or ends before its time.
    #[error(transparent)]
    Service(#[from] StartError),
    /// A scorer does not start.
    #[error(transparent)]
    Scorer(#[from] ScorerError),
    /// The tokens cannot be used.
    #[error(transparent)]
    Tokens(#[from] TokensError),
    /// A file cannot be read.
    #[error("cannot read {}: {source}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file of TLS holds something else.
    #[error("{} has no {kind} in PEM, which begins with -----BEGIN", .path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What it should have.
        kind: &'static str,
    },
    /// A task set cannot be used.
    #[error("`task-sets.{name}`: {}", without_flag(.source))]
    Tasks {
        /// Its name.
        name: String,
        /// Why.
        source: TasksError,
    },
    /// An environment has no tasks of its own for a task set.
    #[error("`task-sets.{name}`: {problem}")]
    Split {
        /// The task set.
        name: String,
        /// Why.
        problem: String,
    },
    /// Spans cannot be sent as the environment variables say.
    #[error("the variables of OpenTelemetry (OTEL_…): {0}")]
    Traces(String),
    /// The system refused something.
    #[error("cannot start: {0}")]
    Io(#[from] io::Error),
    /// It was told to end before it had begun.
    #[error("told to end while the environments were starting")]
    Stopped,
}

/// Plays the environments for trainers until `stop` is asked for: then players stop where they are,
/// what was told is written down, and trainers are told to come back. `ready` is told once trainers may
/// come, and where.
///
/// # Errors
///
/// Something that was configured cannot be used, an environment does not start, or a socket fails.
pub fn serve(
    options: &ServeOptions,
    stop: &Stop,
    ready: impl FnOnce(&Bound),
) -> Result<(), ServeError> {
    let Checked { tokens, tls, task_sets, .. } = check(options)?;
    fs::create_dir_all(&options.store)
        .map_err(|source| ServeError::Unwritable { path: options.store.clone(), source })?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (listener, metrics) = runtime.block_on(async {
        let metrics = match options.metrics {
            Some(address) => Some(listen("metrics", address).await?),
            None => None,
        };
        Ok::<_, ServeError>((listen("listen", options.listen).await?, metrics))
    })?;
    let bound = Bound {
        listen: listener.local_addr()?,
        metrics: metrics.as_ref().map(TcpListener::local_addr).transpose()?,
        is_tls: tls.is_some(),
    };
    let traces = Traces::start(&runtime)?;
    let opened = Opened::open(options.service())?;
    // Those that play end before those that score: what these do not answer any more is played again.
    let scorers =
        ScorerPools::start(&options.scorers, &options.scorer_logs(), &|| stop.is_asked())?;
    let Started { environments, stoppers, splits } =
        start(options, &scorers, stop, |environment| {
            let (ear, traces) = (opened.ear(environment), traces.clone());
            move |played| {
                traces.tell(&played);
                ear.tell(played);
            }
        })?;
    let scorings = options.scorers.iter().map(|it| (it.name.clone(), it.scoring())).collect();
    let task_sets = task_sets.into_iter().chain(splits).collect();
    let running = opened.start(environments, task_sets, scorings)?;
    let accepted = envmill_service::Tokens::default();
    accepted.replace(tokens.into_iter().flat_map(Tokens::into_pairs));
    let certificate = tls.map(|(chain, key)| Certificate { chain, key });
    let drain = running.drain();
    let served = runtime.block_on(async {
        if let Some(path) = &options.tokens {
            tokio::spawn(reload(path.clone(), accepted.clone()));
        }
        if let Some(listener) = metrics {
            let serving = running.metrics(listener);
            tokio::spawn(async move {
                if let Err(error) = serving.await {
                    tracing::error!(%error, "metrics are no longer served");
                }
            });
        }
        ready(&bound);
        let until = async {
            stop.asked().await;
            drain.within(options.drain).await;
            // All at once: whoever holds the players drops one after another, and waits for each.
            stoppers.iter().for_each(Control::stop);
        };
        let served = running.serve(listener, accepted, certificate, until).await;
        traces.finish().await;
        served
    });
    Ok(served?)
}

/// Reads the tokens again whenever the process is told to (`SIGHUP`). Those that are there stay when the
/// new ones cannot be used.
async fn reload(path: PathBuf, accepted: envmill_service::Tokens) {
    let mut told = match signal(SignalKind::hangup()) {
        Ok(told) => told,
        Err(error) => {
            tracing::error!(%error, "tokens cannot be read again while the service runs");
            return;
        }
    };
    while told.recv().await.is_some() {
        match Tokens::read(&path) {
            Ok(tokens) => {
                accepted.replace(tokens.into_pairs());
                tracing::warn!(path = %path.display(), "the tokens were read again");
            }
            Err(error) => tracing::error!(%error, "the tokens stay as they were"),
        }
    }
}

/// Where a service is found.
#[derive(Clone, Copy, Debug)]
pub struct Bound {
    /// By trainers.
    pub listen: SocketAddr,
    /// By whoever reads its metrics.
    pub metrics: Option<SocketAddr>,
    /// Whether trainers speak TLS with it.
    pub is_tls: bool,
}

async fn listen(key: &'static str, address: SocketAddr) -> Result<TcpListener, ServeError> {
    TcpListener::bind(address).await.map_err(|source| ServeError::Listen { key, address, source })
}

/// Environments that have been started.
struct Started {
    /// In the order of the options.
    environments: Vec<Environment>,
    /// Stop them all at once, where dropping would stop one after another.
    stoppers: Vec<Control>,
    /// The task sets that are splits of theirs.
    splits: Vec<(String, Tasks)>,
}

/// Starts all environments at the same time. `told` makes what each player tells to, given its place in
/// the options.
fn start<T>(
    options: &ServeOptions,
    scorers: &ScorerPools,
    stop: &Stop,
    told: impl Fn(usize) -> T,
) -> Result<Started, ServeError>
where
    T: FnMut(Played) + Send + 'static,
{
    let tellers: Vec<T> = (0..options.environments.len()).map(told).collect();
    let results: Vec<Result<FleetPlayer, ServeError>> = thread::scope(|scope| {
        let starting: Vec<_> = options
            .environments
            .iter()
            .zip(tellers)
            .map(|(environment, tell)| {
                let logs = options.logs(&environment.name);
                scope.spawn(move || {
                    FleetPlayer::start(environment, Some(scorers), &logs, stop, tell)
                })
            })
            .collect();
        let panicked = || ServeError::Io(io::Error::other("a thread has panicked"));
        starting.into_iter().map(|it| it.join().unwrap_or_else(|_| Err(panicked()))).collect()
    });
    if stop.is_asked() {
        return Err(ServeError::Stopped);
    }
    let players = results.into_iter().collect::<Result<Vec<_>, _>>()?;
    let splits = splits(options, &players)?;
    let stoppers = players.iter().map(FleetPlayer::stopper).collect();
    let environments = players.into_iter().map(FleetPlayer::into_environment).collect();
    Ok(Started { environments, stoppers, splits })
}

/// The task sets that are splits of environments, which have been asked.
fn splits(
    options: &ServeOptions,
    players: &[FleetPlayer],
) -> Result<Vec<(String, Tasks)>, ServeError> {
    let mut sets = Vec::new();
    for (its, player) in options.environments.iter().zip(players) {
        for set in &options.task_sets {
            let TaskSource::Split { environment, split } = &set.source else { continue };
            if *environment != its.name {
                continue;
            }
            let name = || set.name.clone();
            let tasks = player.split(split).map_err(|problem| ServeError::Split {
                name: name(),
                problem: problem
                    .trim_start_matches("--split ")
                    .replace("--tasks FILE", "a `file` in place of the split"),
            })?;
            let tasks = set.weights.apply(tasks);
            let tasks = tasks.map_err(|source| ServeError::Tasks { name: name(), source })?;
            sets.push((name(), tasks));
        }
    }
    Ok(sets)
}

/// An error of the tasks' file, which is no flag here.
fn without_flag(error: &TasksError) -> String {
    error.to_string().trim_start_matches("--tasks: ").to_owned()
}
