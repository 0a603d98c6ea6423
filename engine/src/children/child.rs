//! One server that a run starts.

use std::{
    fs::{self, File, OpenOptions},
    io,
    net::{Ipv4Addr, TcpListener},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use envmill_openenv::{Options, Server, ready};
use rustix::process::{Pid, Signal, kill_process_group};

use super::{tail, usage};
use crate::config::Native;

/// How often a starting server is asked.
const PROBE: Duration = Duration::from_millis(25);

/// What to start.
#[derive(Clone, Debug)]
pub enum Launch {
    /// `envmill env serve` of this program for a native environment.
    Native {
        /// The program.
        program: PathBuf,
        /// The environment.
        native: Native,
    },
    /// A command for the shell, with `{port}` where the port goes.
    Shell(String),
}

/// A server cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum ChildError {
    /// The program does not start, or its output cannot be kept.
    #[error("cannot start a server: {0}")]
    Io(#[from] io::Error),
    /// It ended before it answered.
    #[error("the server `{command}` ended before it answered /health; its output ends with:\n{tail}")]
    Ended {
        /// What was started.
        command: String,
        /// The end of its output.
        tail: String,
    },
    /// It did not answer in time.
    #[error(
        "the server `{command}` did not answer /health within {waited:?} (--start-timeout-ms); its \
         output ends with:\n{tail}"
    )]
    Silent {
        /// What was started.
        command: String,
        /// How long was waited.
        waited: Duration,
        /// The end of its output.
        tail: String,
    },
}

/// A server process in a group of its own, which ends with it.
#[derive(Debug)]
pub struct Child {
    launch: Launch,
    port: u16,
    log: PathBuf,
    process: std::process::Child,
    /// What processes that are gone had used, and the last look at those that are not.
    before: (f64, u64),
    last: (f64, u64),
}

impl Child {
    pub(super) fn start(launch: Launch, log: &Path) -> Result<Self, ChildError> {
        if let Some(parent) = log.parent() {
            fs::create_dir_all(parent)?;
        }
        // The system gives a free port; nobody else is likely to take it before the server does.
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        File::create(log)?;
        let process = spawn(&launch, port, log)?;
        let log = log.to_owned();
        Ok(Self { launch, port, log, process, before: (0.0, 0), last: (0.0, 0) })
    }

    pub(super) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub(super) fn is_running(&mut self) -> bool {
        matches!(self.process.try_wait(), Ok(None))
    }

    pub(super) fn wait_until_ready(&mut self, bound: Duration) -> Result<(), ChildError> {
        let server = Server::new(self.url());
        let options = Options::new(vec![server.clone()]);
        let began = Instant::now();
        let command = self.command_line();
        loop {
            if ready(&server, &options).is_ok() {
                return Ok(());
            }
            if !self.is_running() {
                return Err(ChildError::Ended { command, tail: tail(&self.log) });
            }
            if began.elapsed() >= bound {
                let tail = tail(&self.log);
                return Err(ChildError::Silent { command, waited: bound, tail });
            }
            std::thread::park_timeout(PROBE);
        }
    }

    pub(super) fn restart(&mut self, bound: Duration) -> Result<(), ChildError> {
        self.end();
        self.before.0 += self.last.0;
        self.before.1 = self.before.1.max(self.last.1);
        self.last = (0.0, 0);
        self.process = spawn(&self.launch, self.port, &self.log)?;
        self.wait_until_ready(bound)
    }

    /// CPU seconds and peak memory in bytes, over all its processes.
    pub(super) fn usage(&mut self) -> (f64, u64) {
        let (cpu, rss) = usage::of_group(self.process.id());
        self.last = (self.last.0.max(cpu), self.last.1.max(rss));
        (self.before.0 + self.last.0, self.before.1.max(self.last.1))
    }

    fn command_line(&self) -> String {
        match &self.launch {
            Launch::Native { native, .. } => native.to_string(),
            Launch::Shell(command) => command.replace("{port}", &self.port.to_string()),
        }
    }

    fn end(&mut self) {
        // Both fail only for what is already gone.
        if let Some(group) = i32::try_from(self.process.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.process.wait();
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.end();
    }
}

fn spawn(launch: &Launch, port: u16, log: &Path) -> io::Result<std::process::Child> {
    let mut command = match launch {
        Launch::Native { program, native } => {
            let mut command = Command::new(program);
            command.args(["env", "serve", &native.name, "--with-parent", "--port"]);
            command.arg(port.to_string());
            for (name, value) in &native.parameters {
                command.arg("--parameter").arg(format!("{name}={value}"));
            }
            command
        }
        Launch::Shell(line) => {
            let mut command = Command::new("sh");
            command.arg("-c").arg(line.replace("{port}", &port.to_string()));
            command
        }
    };
    let output = OpenOptions::new().append(true).open(log)?;
    command
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        // Out of reach of the terminal's Ctrl-C, and ended with all that it starts.
        .process_group(0)
        .spawn()
}
