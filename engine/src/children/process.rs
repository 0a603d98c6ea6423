//! One server process and its group.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom},
    net::{Ipv4Addr, TcpListener},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use super::{guard, sentry::Sentry, usage::Usage};
use crate::config::Local;

/// How many bytes of a server's output are shown when it fails.
const TAIL_BYTES: u64 = 2048;

/// How to start one server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Launch {
    /// A line for the shell, with `{port}` where the port goes.
    Shell(String),
    /// A program and its arguments, in which `{port}` stands for the port.
    Program(PathBuf, Vec<String>),
}

impl Launch {
    /// A server of our own for an environment: `envmill env serve`, with what starts this command
    /// (`program` and its first arguments, or this process's program where that is empty).
    ///
    /// # Errors
    ///
    /// The system does not say which program this process runs.
    pub(crate) fn ours(
        program: &[String],
        environment: &Local,
        python: Option<&Path>,
        python_path: &[PathBuf],
        production: bool,
    ) -> io::Result<Self> {
        let (program, first) = match program.split_first() {
            Some((program, first)) => (program.into(), first),
            None => (std::env::current_exe()?, &[][..]),
        };
        let mut arguments = first.to_vec();
        let serve = ["env", "serve", &environment.to_string(), "--port", "{port}"];
        arguments.extend(serve.map(String::from));
        if let Some(python) = python.filter(|_| !matches!(environment, Local::Native(_))) {
            arguments.extend(["--python".into(), python.display().to_string()]);
        }
        for directory in python_path {
            arguments.extend(["--python-path".into(), directory.display().to_string()]);
        }
        if production {
            arguments.push("--production".into());
        }
        Ok(Self::Program(program, arguments))
    }

    fn command(&self, port: u16) -> Command {
        let port = port.to_string();
        match self {
            Self::Shell(line) => {
                let line = line.replace("{port}", &port);
                // The shell makes way for a simple command, so that signals reach the server.
                let is_simple = !line.contains(['&', '|', ';', '\n', '(', '`', '=']);
                let line = if is_simple { format!("exec {line}") } else { line };
                let mut command = Command::new("/bin/sh");
                command.arg("-c").arg(line);
                command
            }
            Self::Program(program, arguments) => {
                let mut command = Command::new(program);
                command.args(arguments.iter().map(|text| text.replace("{port}", &port)));
                command
            }
        }
    }
}

/// A server process that leads a process group of its own.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    pid: Pid,
}

impl Process {
    /// Starts a server whose output is appended to `log`. On the supervisor's thread only: the
    /// process dies with the thread that started it.
    pub(super) fn start(
        launch: &Launch,
        port: u16,
        log: &Path,
        sentry: &Sentry,
    ) -> io::Result<Self> {
        if let Some(parent) = log.parent() {
            fs::create_dir_all(parent)?;
        }
        let output = OpenOptions::new().create(true).append(true).open(log)?;
        let mut command = launch.command(port);
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output).process_group(0);
        guard::die_with_this_thread(&mut command);
        let child = command.spawn()?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| io::Error::other("the system gave no process id"))?;
        sentry.watch(pid);
        Ok(Self { child, pid })
    }

    /// Whether it has ended; it is left to be [`reap`](Self::reap)ed.
    pub(super) fn has_ended(&self) -> bool {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        match waitid(WaitId::Pid(self.pid), options) {
            Ok(status) => status.is_some(),
            // No such child: nothing that could still run.
            Err(_) => true,
        }
    }

    /// Its process id.
    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it and all its descendants have cost so far.
    pub(super) fn usage(&self) -> Usage {
        Usage::of_tree(self.pid.as_raw_nonzero().get())
    }

    pub(super) fn terminate(&self) {
        // A group that is gone needs no signal.
        let _ = kill_process_group(self.pid, Signal::TERM);
    }

    /// Kills what is left of its group and forgets it. Its process id is not given to another process
    /// before, so the signal can reach nobody else.
    pub(super) fn reap(mut self, sentry: &Sentry) -> io::Result<ExitStatus> {
        let _ = kill_process_group(self.pid, Signal::KILL);
        sentry.dismiss(self.pid);
        self.child.wait()
    }
}

/// A port of the loopback interface that is free now.
pub(super) fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// The end of a server's output, for people.
pub(super) fn tail(log: &Path) -> String {
    let read = || -> io::Result<String> {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
    };
    match read() {
        Ok(text) if !text.is_empty() => text,
        _ => "(it printed nothing)".into(),
    }
}
