//! A Python function, in a process of its own.

use std::{
    fs::{self, OpenOptions},
    io::{self, Read, Write},
    os::{
        fd::OwnedFd,
        unix::{net::UnixStream, process::CommandExt as _},
    },
    path::{Path, PathBuf},
    process::{Child, Command},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open},
};
use serde::Deserialize;

use super::caller::{Caller, Fault, Remedy};
use crate::children::{Sentry, guard::die_with_this_thread};

/// The first part of what the process runs.
const RUNNER: &str = include_str!("runner.py");
/// How long it may take until it is ready, imports included.
const START_TIMEOUT: Duration = Duration::from_mins(2);
/// How often it is looked whether it still lives, and whether its answer is still wanted, while it works.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long a process that has hung up may take to end by itself, so that it can be said how it did.
const FAREWELL_S: i64 = 1;
/// The largest answer, in bytes.
const ANSWER_BYTES_MAX: u64 = 64 << 20;

/// How such a process is started.
#[derive(Clone, Debug)]
pub(crate) struct Launch {
    /// The second part of what it runs: how frames are answered.
    pub(crate) program: &'static str,
    pub(crate) function: String,
    pub(crate) interpreter: PathBuf,
    pub(crate) path: Vec<PathBuf>,
    /// Where what it prints goes.
    pub(crate) log: PathBuf,
    pub(crate) sentry: Arc<Sentry>,
    /// Set when there is nothing more to be done.
    pub(crate) is_over: Arc<AtomicBool>,
}

/// One process, started anew when it has ended or was killed. It is used on one thread, with which it
/// dies.
#[derive(Debug)]
pub(crate) struct PythonCaller {
    launch: Launch,
    timeout: Duration,
    process: Option<Process>,
}

/// What a process says.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Said {
    Ready(bool),
    Failed(String),
    Raised(String),
    Malformed(String),
}

/// Why a frame was not sent, or did not come.
enum Broken {
    /// It takes too long.
    Late,
    /// It has ended.
    Gone,
    /// What comes is no frame.
    Nonsense(String),
}

impl PythonCaller {
    pub(crate) const fn new(launch: Launch, timeout: Duration) -> Self {
        Self { launch, timeout, process: None }
    }

    /// Starts the process, if there is none.
    pub(crate) fn start(&mut self) -> Result<&mut Process, Fault> {
        let process = match self.process.take() {
            Some(process) => process,
            None => self.launched()?,
        };
        Ok(self.process.insert(process))
    }

    /// Whether there is a process. One that was killed, or has ended in a call, is none.
    pub(crate) const fn is_running(&self) -> bool {
        self.process.is_some()
    }

    fn launched(&self) -> Result<Process, Fault> {
        let Launch { function, log, .. } = &self.launch;
        let log = log.display();
        let again =
            |why| Fault::new(Remedy::Again(None), format!("{function} does not start: {why}"));
        let mut process = Process::start(&self.launch).map_err(|error| {
            let interpreter = self.launch.interpreter.display();
            again(format!("{interpreter}: {error}"))
        })?;
        let said = process.receive(Instant::now() + START_TIMEOUT);
        match said.map(|frame| serde_json::from_slice(&frame)) {
            Ok(Ok(Said::Ready(true))) => Ok(process),
            Ok(Ok(Said::Failed(why))) => Err(again(format!("{why}; see {log}"))),
            Ok(_) => Err(again(format!("it speaks another language; see {log}"))),
            Err(Broken::Late) => Err(again(format!("not within {START_TIMEOUT:?}; see {log}"))),
            Err(Broken::Gone) => Err(again(format!("it {}; see {log}", process.end()))),
            Err(Broken::Nonsense(what)) => Err(again(format!("{what}; see {log}"))),
        }
    }
}

impl Caller for PythonCaller {
    fn call(&mut self, batch: &[u8]) -> Result<Vec<u8>, Fault> {
        let (timeout, log) = (self.timeout, self.launch.log.display().to_string());
        let process = self.start()?;
        let until = Instant::now() + timeout;
        let answer = process.send(batch, until).and_then(|()| process.receive(until));
        let broken = match answer {
            Ok(answer) => match serde_json::from_slice(&answer) {
                Ok(Said::Raised(why)) => return Err(Fault::new(Remedy::Halves, why)),
                Ok(Said::Malformed(why)) => return Err(Fault::new(Remedy::Nothing, why)),
                // An answer, or what its reader will complain about.
                _ => return Ok(answer),
            },
            Err(broken) => broken,
        };
        let how = process.end();
        self.process = None;
        Err(match broken {
            Broken::Late => Fault::new(
                Remedy::AgainInHalves,
                format!(
                    "it has not answered within {timeout:?}, and its process was killed; see {log}"
                ),
            ),
            Broken::Gone => Fault::new(Remedy::Halves, format!("its process {how}; see {log}")),
            Broken::Nonsense(what) => Fault::new(Remedy::Halves, format!("{what}; see {log}")),
        })
    }
}

#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    pid: Pid,
    socket: UnixStream,
    sentry: Arc<Sentry>,
    is_over: Arc<AtomicBool>,
    is_reaped: bool,
}

impl Process {
    fn start(launch: &Launch) -> io::Result<Self> {
        let (socket, theirs) = UnixStream::pair()?;
        let output = opened(&launch.log)?;
        let mut command = Command::new(&launch.interpreter);
        command
            .args(["-u", "-c"])
            .arg(format!("{RUNNER}{}", launch.program))
            .arg(&launch.function)
            .args(&launch.path)
            // The one descriptor that can be passed on without being open to others for a moment.
            .stdin(OwnedFd::from(theirs))
            .stdout(output.try_clone()?)
            .stderr(output)
            .process_group(0);
        die_with_this_thread(&mut command);
        let child = command.spawn()?;
        let pid = Pid::from_child(&child);
        launch.sentry.watch(pid);
        let (sentry, is_over) = (Arc::clone(&launch.sentry), Arc::clone(&launch.is_over));
        Ok(Self { child, pid, socket, sentry, is_over, is_reaped: false })
    }

    fn send(&mut self, frame: &[u8], until: Instant) -> Result<(), Broken> {
        self.write(&(frame.len() as u64).to_le_bytes(), until)?;
        self.write(frame, until)
    }

    fn receive(&mut self, until: Instant) -> Result<Vec<u8>, Broken> {
        let mut length = [0; 8];
        self.read(&mut length, until)?;
        let length = u64::from_le_bytes(length);
        if length > ANSWER_BYTES_MAX {
            return Err(Broken::Nonsense(format!("it answered {length} bytes")));
        }
        let mut frame = vec![0; length as usize];
        self.read(&mut frame, until)?;
        Ok(frame)
    }

    fn write(&mut self, mut bytes: &[u8], until: Instant) -> Result<(), Broken> {
        while !bytes.is_empty() {
            let wait = self.wait(until)?;
            let written = self.socket.set_write_timeout(Some(wait));
            match written.and_then(|()| self.socket.write(bytes)) {
                Ok(count) => bytes = &bytes[count..],
                Err(error) => self.look(&error)?,
            }
        }
        Ok(())
    }

    fn read(&mut self, mut bytes: &mut [u8], until: Instant) -> Result<(), Broken> {
        while !bytes.is_empty() {
            let wait = self.wait(until)?;
            let read = self.socket.set_read_timeout(Some(wait));
            match read.and_then(|()| self.socket.read(bytes)) {
                Ok(0) => return Err(Broken::Gone),
                Ok(count) => bytes = &mut bytes[count..],
                Err(error) => self.look(&error)?,
            }
        }
        Ok(())
    }

    /// How long to wait before the next look.
    fn wait(&self, until: Instant) -> Result<Duration, Broken> {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() || self.is_over.load(Ordering::Relaxed) {
            return Err(Broken::Late);
        }
        Ok(left.clamp(Duration::from_millis(1), LOOK_EVERY))
    }

    /// Whether it goes on after an error.
    fn look(&self, error: &io::Error) -> Result<(), Broken> {
        match error.kind() {
            io::ErrorKind::Interrupted => Ok(()),
            // What it has started may keep the socket open when it has ended.
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut if !self.has_ended(0) => Ok(()),
            _ => Err(Broken::Gone),
        }
    }

    /// Whether it has ended, or does so within this time. It is left to be reaped.
    fn has_ended(&self, seconds: i64) -> bool {
        let Ok(descriptor) = pidfd_open(self.pid, PidfdFlags::empty()) else { return true };
        let patience = Timespec { tv_sec: seconds, tv_nsec: 0 };
        let mut descriptors = [PollFd::new(&descriptor, PollFlags::IN)];
        matches!(poll(&mut descriptors, Some(&patience)), Ok(1..))
    }

    /// Ends it, if it does not end by itself now, with all that it has started; says how it ended.
    fn end(&mut self) -> String {
        if self.is_reaped {
            return "has ended".into();
        }
        self.is_reaped = true;
        let by_itself = self.has_ended(0) || {
            // Its end of the socket is closed before it has ended.
            let is_closing = self.socket.set_read_timeout(Some(Duration::from_millis(1))).is_ok()
                && matches!(self.socket.read(&mut [0]), Ok(0));
            is_closing && self.has_ended(FAREWELL_S)
        };
        // Before it is reaped, while its number cannot be another's.
        let _ = kill_process_group(self.pid, Signal::KILL);
        self.sentry.dismiss(self.pid);
        match self.child.wait() {
            Ok(status) if by_itself => format!("has ended with {status}"),
            _ => "was killed".into(),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

fn opened(log: &Path) -> io::Result<fs::File> {
    if let Some(parent) = log.parent() {
        fs::create_dir_all(parent)?;
    }
    OpenOptions::new().create(true).append(true).open(log)
}
