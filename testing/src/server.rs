//! A real OpenEnv server: uvicorn, in a Python environment of its own.

use std::{
    fmt::Write as _,
    fs::File,
    io::Seek as _,
    net::{Ipv4Addr, SocketAddr},
    os::unix::fs::FileExt as _,
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};

use crate::{
    NEWEST, Processes, free_port, get,
    python::{directory, python_of, script},
    watchdog::becomes_true,
};

/// How long a server may take to answer its first health probe. Generous: importing OpenEnv alone
/// takes seconds on a busy machine.
const START_BOUND: Duration = Duration::from_secs(120);

/// How often a server whose port was taken by somebody else is started again on another.
const START_ATTEMPTS_MAX: u32 = 5;

/// How many lines of a server's output stand in an error.
const LOG_TAIL_LINES: usize = 40;

/// Which server to start, and how.
#[derive(Clone, Debug)]
pub struct PythonServerOptions {
    module: String,
    directory: PathBuf,
    version: String,
    environment: Vec<(String, String)>,
    arguments: Vec<String>,
}

impl PythonServerOptions {
    /// The `app` of a module of `python/servers/`, such as `bench_env`, under the newest OpenEnv, with
    /// one uvicorn worker.
    #[must_use]
    pub fn new(module: &str) -> Self {
        Self {
            module: module.to_owned(),
            directory: directory().join("servers"),
            version: NEWEST.to_owned(),
            environment: Vec::new(),
            arguments: Vec::new(),
        }
    }

    /// Looks for the module in `directory` instead.
    #[must_use]
    pub fn directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directory = directory.into();
        self
    }

    /// Uses another version of OpenEnv, one of [`VERSIONS`](crate::VERSIONS).
    #[must_use]
    pub fn version(mut self, version: &str) -> Self {
        version.clone_into(&mut self.version);
        self
    }

    /// Sets an environment variable of the server.
    #[must_use]
    #[expect(clippy::needless_pass_by_value, reason = "callers pass numbers and literals")]
    pub fn env(mut self, name: &str, value: impl ToString) -> Self {
        self.environment.push((name.to_owned(), value.to_string()));
        self
    }

    /// Runs this many worker processes behind the one port.
    #[must_use]
    pub fn workers(self, workers: u32) -> Self {
        self.argument("--workers").argument(&workers.to_string())
    }

    /// Adds an argument to uvicorn's command line.
    #[must_use]
    pub fn argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }
}

/// A running server on a loopback port. Dropping it kills it with all its workers; it also dies when
/// the process that started it does, however that ends.
#[derive(Debug)]
pub struct PythonServer {
    options: PythonServerOptions,
    address: SocketAddr,
    /// What it prints. It has no name, so that nothing is left of a server that is never dropped.
    log: File,
    processes: Processes,
}

impl PythonServer {
    /// Starts a server on a free port and waits until it answers `/health`.
    ///
    /// # Errors
    ///
    /// When the Python environment is missing, or the server ends or stays silent; the message holds
    /// the tail of its output.
    pub fn start(options: PythonServerOptions) -> Result<Self> {
        let log = tempfile::tempfile().context("no file for a server's output")?;
        for attempt in 1.. {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
            match launch(&options, address, &log) {
                Ok(processes) => return Ok(Self { options, address, log, processes }),
                Err(error)
                    if attempt < START_ATTEMPTS_MAX
                        && format!("{error:#}").contains("address already in use") => {}
                Err(error) => return Err(error),
            }
        }
        bail!("unreachable: the last attempt returns")
    }

    /// A module of `python/servers/` with nothing else asked for.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub fn of(module: &str) -> Result<Self> {
        Self::start(PythonServerOptions::new(module))
    }

    /// Kills what is left of the server and starts it again on the same port.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start); also when somebody else has taken the port.
    pub fn restart(&mut self) -> Result<()> {
        self.kill();
        self.processes = launch(&self.options, self.address, &self.log)?;
        Ok(())
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its base URL, without a trailing slash.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The process id of uvicorn (with several workers: of their parent).
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.processes.id()
    }

    /// Kills it with all its workers at once, as `kill -9` does.
    pub fn kill(&mut self) {
        self.processes.kill();
    }

    /// Stops it in its tracks (`SIGSTOP`): its sockets stay open and nothing answers.
    pub fn stop(&self) {
        self.processes.stop();
    }

    /// Lets a stopped server go on (`SIGCONT`).
    pub fn cont(&self) {
        self.processes.cont();
    }

    /// Asks it to end as an orchestrator does (`SIGTERM`). Does not wait.
    pub fn terminate(&self) {
        self.processes.terminate();
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.processes.is_running()
    }

    /// CPU time used so far by the server and its workers, in seconds.
    #[must_use]
    pub fn cpu_seconds(&self) -> f64 {
        self.processes.cpu_seconds()
    }

    /// Memory held by the server and its workers (resident set), in bytes.
    #[must_use]
    pub fn rss_bytes(&self) -> u64 {
        self.processes.rss_bytes()
    }

    /// All that it has printed since it was last started.
    #[must_use]
    pub fn output(&self) -> String {
        read_lossy(&self.log)
    }
}

fn launch(options: &PythonServerOptions, address: SocketAddr, log: &File) -> Result<Processes> {
    // What an earlier one has printed is gone; both streams write behind each other.
    log.set_len(0)?;
    let mut output = log.try_clone()?;
    output.rewind()?;
    let mut command = Command::new(python_of(&options.version)?);
    command
        .arg(script("launch_uvicorn.py"))
        .arg(format!("{}:app", options.module))
        .args(["--host", &address.ip().to_string()])
        .args(["--port", &address.port().to_string()])
        .args(&options.arguments)
        .current_dir(&options.directory)
        .env("PYTHONPATH", &options.directory)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("PYTHONUNBUFFERED", "1")
        .envs(options.environment.iter().map(|(name, value)| (name, value)))
        // The launcher ends when this pipe does; its writing end lives in the child's handle.
        .stdin(Stdio::piped())
        .stdout(output.try_clone()?)
        .stderr(output);
    let mut processes = Processes::spawn(&mut command).context("cannot start Python")?;
    let healthy = becomes_true(START_BOUND, || {
        !processes.is_running() || get(address, "/health").is_ok_and(|(status, _)| status == 200)
    });
    if healthy && processes.is_running() {
        return Ok(processes);
    }
    let mut message = format!("{} of OpenEnv {} ", options.module, options.version);
    message.push_str(if healthy { "ended at its start" } else { "never became healthy" });
    let _ = write!(message, "; its output ends with:\n{}", tail(&read_lossy(log)));
    bail!(message)
}

/// All of a file, without moving the place at which the server writes.
fn read_lossy(log: &File) -> String {
    let length = log.metadata().map_or(0, |it| it.len());
    let mut bytes = vec![0; usize::try_from(length).unwrap_or_default()];
    // One that was made shorter meanwhile belongs to a server that has only begun.
    let _ = log.read_exact_at(&mut bytes, 0);
    String::from_utf8_lossy(&bytes).into_owned()
}

fn tail(text: &str) -> String {
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n")
}
