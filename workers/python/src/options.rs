//! What can be set.

use std::{fmt, path::PathBuf, time::Duration};

use envmill_protocol::openenv::FieldPath;

use crate::machine_memory;

/// How to step an environment in Python processes.
#[derive(Clone, Debug)]
pub struct Options {
    /// What is stepped.
    pub target: Target,
    /// The interpreter: a path, or a name that is looked up as a shell does.
    pub python: PathBuf,
    /// Directories in which modules are looked for first. The current directory is always one.
    pub path: Vec<PathBuf>,
    /// How many worker processes there are, each a server of its own to the core. Default: one a core.
    pub processes: u32,
    /// The most sessions in one process. Environments that do not support concurrent sessions get one.
    pub sessions_per_process: u32,
    /// How processes begin.
    pub start: Start,
    /// Which thread of its process a session's environment runs on.
    pub threads: Threads,
    /// Where sessions go.
    pub placement: Placement,
    /// What environments are told of the mode they are in (`OPENENV_MODE`).
    pub production: bool,
    /// Where the processes' output goes. It never mixes with anything of the engine's.
    pub log: Log,
    /// How long a process may stay with a session that was closed before it is killed, and all its
    /// sessions with it.
    pub grace: Duration,
    /// How long a process may take until it is ready, imports included.
    pub start_timeout: Duration,
    /// The most memory (resident set, in bytes) of one process; more of it is killed. `None` for no
    /// limit. Default: nine tenths of the machine's memory, shared out evenly.
    pub memory_bytes_max: Option<u64>,
    /// Bytes for the texts of one batch in each direction; larger batches take a way around, once.
    pub arena_bytes: u64,
    /// Where the environment says that an episode was cut rather than ended, if anywhere.
    pub truncated_from: Option<FieldPath>,
    /// Whether an environment is made once to be asked for its metadata.
    pub metadata: bool,
}

impl Options {
    /// The defaults for `target`: `python3`, a process for each core, 256 sessions a process.
    #[must_use]
    pub fn new(target: Target) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let processes = u32::try_from(cores).unwrap_or(1);
        let mut options = Self {
            target,
            python: "python3".into(),
            path: Vec::new(),
            processes: 1,
            sessions_per_process: 256,
            start: Start::Auto,
            threads: Threads::Auto,
            placement: Placement::ByServer,
            production: false,
            log: Log::Stderr,
            grace: Duration::from_secs(1),
            start_timeout: Duration::from_secs(60),
            memory_bytes_max: None,
            arena_bytes: 1 << 20,
            truncated_from: None,
            metadata: false,
        };
        options.set_processes(processes);
        options
    }
}

impl Options {
    /// Sets the number of processes, and shares the memory out to so many.
    pub fn set_processes(&mut self, processes: u32) {
        self.processes = processes;
        self.memory_bytes_max =
            machine_memory().map(|bytes| bytes / 10 * 9 / u64::from(processes.max(1)));
    }
}

/// What is stepped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A class (or an annotated function that makes one) derived from OpenEnv's `Environment`.
    OpenEnvClass(OpenEnvClass),
    /// A Gymnasium environment.
    Gymnasium(Gymnasium),
}

/// A Gymnasium environment. Its actions are `{"action": …}` and its observations `{"observation": …}`;
/// a reset takes `seed` and `options`; what it says in `info` is the metadata.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gymnasium {
    /// `gymnasium/ID`, or `module:factory` for a function or class that makes one.
    pub name: String,
    /// Keyword arguments of its making: the text of one JSON object, or empty.
    pub arguments: String,
    /// For a vectorised environment (`gymnasium.vector.VectorEnv`), how many rows it is made with: each
    /// is a session of its process, and all step together.
    pub vector: Option<u32>,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OpenEnvClass(class) => write!(f, "openenv-class:{}", class.class),
            Self::Gymnasium(gymnasium) => write!(f, "python:{}", gymnasium.name),
        }
    }
}

/// An OpenEnv environment class. Models that are not named are found by the class's type parameters,
/// or by the annotations of its methods.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OpenEnvClass {
    /// The class, as `module:Class`.
    pub class: String,
    /// The model of actions, as `module:Class`.
    pub action: Option<String>,
    /// The model of observations.
    pub observation: Option<String>,
    /// The model of the state.
    pub state: Option<String>,
    /// The constructor's keyword arguments: the text of one JSON object, or empty.
    pub arguments: String,
}

/// How worker processes begin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// Forked from a process that has imported the environment, unless that import started threads;
    /// then [`Spawn`](Self::Spawn).
    #[default]
    Auto,
    /// Forked, though importing started threads. They are not there in the forked process, and what
    /// they held stays locked.
    Fork,
    /// From nothing, each with its own imports.
    Spawn,
}

impl Start {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Fork => "fork",
            Self::Spawn => "spawn",
        }
    }
}

/// Which thread of its process a session's environment runs on. Environments with coroutines
/// (`step_async`) share an event loop in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Threads {
    /// All on one, as long as they compute; where they are seen to wait, one each.
    #[default]
    Auto,
    /// All on one: steps follow one another.
    Inline,
    /// One for each session.
    Session,
}

impl Threads {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Inline => "inline",
            Self::Session => "session",
        }
    }
}

/// Where sessions go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Placement {
    /// Process *i* is server *i*: whoever opens a session chooses.
    #[default]
    ByServer,
    /// To the process with the fewest, whatever server is named.
    Even,
}

/// Where the output of worker processes goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Log {
    /// To this process's standard error.
    #[default]
    Stderr,
    /// To the end of a file.
    File(PathBuf),
    /// Nowhere.
    Nowhere,
}
