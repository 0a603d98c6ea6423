//! The built command, as a test starts it.

use std::{
    env, fs,
    io::Read,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    thread::{self, JoinHandle},
};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::{Processes, watchdog::pause};

/// A call of `envmill` that has not begun.
#[derive(Debug)]
pub struct EnvmillCommand {
    command: Command,
}

impl EnvmillCommand {
    /// The command at `path`, which the integration tests of the `envmill` crate know as
    /// `env!("CARGO_BIN_EXE_envmill")`.
    pub fn new(path: impl AsRef<Path>) -> Self {
        Self { command: Command::new(path.as_ref()) }
    }

    /// The command in the target directory that the running test or bench was built into.
    ///
    /// # Errors
    ///
    /// When it has not been built there; the message names the command that builds it.
    pub fn built() -> Result<Self> {
        let test = env::current_exe()?;
        let path = test
            .ancestors()
            .skip(1)
            .take(2)
            .map(|directory| directory.join("envmill"))
            .find(|path| path.is_file())
            .with_context(|| {
                format!("no `envmill` near {}: run `cargo build -p envmill`", test.display())
            })?;
        Ok(Self::new(path))
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<std::ffi::OsStr>) -> Self {
        self.command.arg(argument);
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: AsRef<std::ffi::OsStr>>(
        mut self,
        arguments: impl IntoIterator<Item = A>,
    ) -> Self {
        self.command.args(arguments);
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<std::ffi::OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Runs it in `directory`.
    #[must_use]
    pub fn current_dir(mut self, directory: impl AsRef<Path>) -> Self {
        self.command.current_dir(directory);
        self
    }

    /// Runs it to its end.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub fn run(self) -> Result<Finished> {
        Ok(self.start()?.wait())
    }

    /// Starts it, with nothing on its standard input, and collects what it prints.
    ///
    /// # Errors
    ///
    /// When the program cannot be started.
    pub fn start(mut self) -> Result<Running> {
        self.command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let program = PathBuf::from(self.command.get_program());
        let mut processes = Processes::spawn(&mut self.command)
            .with_context(|| format!("cannot start {}", program.display()))?;
        let child = processes.leader();
        let stdout = child.stdout.take().context("standard output was piped")?;
        let stderr = child.stderr.take().context("standard error was piped")?;
        Ok(Running { stdout: collect(stdout), stderr: collect(stderr), processes })
    }
}

/// Reads a stream to its end on a thread of its own, so that a full pipe never stops the command.
fn collect(mut stream: impl Read + Send + 'static) -> JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // A stream that breaks is as good as one that ends: what came before is what there is.
        let _ = stream.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// A running command. Dropping it kills it with all that it started in its own process group.
#[derive(Debug)]
pub struct Running {
    processes: Processes,
    stdout: JoinHandle<String>,
    stderr: JoinHandle<String>,
}

impl Running {
    /// The process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.processes.id()
    }

    /// What Ctrl-C does (`SIGINT`).
    pub fn interrupt(&self) {
        self.processes.interrupt();
    }

    /// Asks it to end (`SIGTERM`).
    pub fn terminate(&self) {
        self.processes.terminate();
    }

    /// Kills it at once (`SIGKILL`).
    pub fn kill(&mut self) {
        self.processes.kill();
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.processes.is_running()
    }

    /// Memory held by it and its children (resident set), in bytes.
    #[must_use]
    pub fn rss_bytes(&self) -> u64 {
        self.processes.rss_bytes()
    }

    /// CPU time used so far by it and its children, in seconds.
    #[must_use]
    pub fn cpu_seconds(&self) -> f64 {
        self.processes.cpu_seconds()
    }

    /// Waits for its end and collects what it printed.
    #[must_use]
    pub fn wait(mut self) -> Finished {
        while self.processes.is_running() {
            pause();
        }
        // What it may have left behind in its group, holding the pipes, was killed just now: the
        // readers come to an end.
        let status = self.processes.leader().wait().ok();
        Finished {
            status,
            stdout: self.stdout.join().unwrap_or_default(),
            stderr: self.stderr.join().unwrap_or_default(),
        }
    }
}

/// A command that has ended.
#[derive(Debug)]
pub struct Finished {
    /// How it ended.
    pub status: Option<ExitStatus>,
    /// All of its standard output.
    pub stdout: String,
    /// All of its standard error.
    pub stderr: String,
}

impl Finished {
    /// The exit status; `None` if a signal ended it.
    #[must_use]
    pub fn code(&self) -> Option<i32> {
        self.status.and_then(|status| status.code())
    }

    /// The summary that `--json` prints: the last line of standard output.
    ///
    /// # Errors
    ///
    /// When that line is not a JSON object; the message holds both streams.
    pub fn summary(&self) -> Result<Value> {
        self.stdout
            .lines()
            .last()
            .and_then(|line| serde_json::from_str(line).ok())
            .filter(Value::is_object)
            .with_context(|| {
                format!(
                    "no summary on the last line (exit {:?})\nstdout:\n{}\nstderr:\n{}",
                    self.code(),
                    self.stdout,
                    self.stderr
                )
            })
    }
}

/// Every line of `trajectories.jsonl` in `directory`, in the order of the file.
///
/// # Errors
///
/// When the file is missing, or a line is not whole JSON; the message names the line.
pub fn trajectories(directory: &Path) -> Result<Vec<Value>> {
    let path = directory.join("trajectories.jsonl");
    let text =
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    anyhow::ensure!(
        text.is_empty() || text.ends_with('\n'),
        "{} ends within a line",
        path.display()
    );
    text.lines()
        .enumerate()
        .map(|(index, line)| {
            serde_json::from_str(line)
                .with_context(|| format!("{} line {} is no JSON", path.display(), index + 1))
        })
        .collect()
}
