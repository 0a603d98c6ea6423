//! The Python process that starts the others.

use std::{
    fs::OpenOptions,
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::process::CommandExt as _,
    },
    process::{Child, Command, Stdio},
    time::Instant,
};

use envmill_ring::{Channel, Message, Received};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, pidfd_open},
};
use serde::Deserialize;
use serde_json::json;

use crate::{
    Error, Log, Options,
    bundle::{self, BOOTSTRAP},
    error::system,
};

/// How long the nursery may take to go once it was told to, in seconds.
const FAREWELL_S: i64 = 5;

/// News of a process.
#[derive(Debug, Deserialize)]
#[serde(tag = "op", rename_all = "lowercase")]
pub(crate) enum News {
    /// The nursery itself is ready.
    Nursery {
        /// How it starts processes.
        #[expect(dead_code, reason = "for people who look at what is sent")]
        start: String,
    },
    /// A process was started.
    Started { number: usize, pid: u32 },
    /// A process has ended.
    Ended { number: usize, how: String },
}

/// The Python process that starts the others, ends them, and tells when they have ended.
#[derive(Debug)]
pub(crate) struct Nursery {
    child: Child,
    /// `None` once it was told to go.
    channel: Option<Channel>,
}

impl Nursery {
    /// Starts it. It dies with this process, and with it whatever it has started.
    pub(crate) fn start(options: &Options) -> Result<Self, Error> {
        let bundle = bundle::make(options)?;
        let (channel, theirs) = Channel::pair().map_err(system("cannot make a pair of sockets"))?;
        let mut command = Command::new(&options.python);
        command
            .args(["-u", "-c", BOOTSTRAP])
            .arg(std::process::id().to_string())
            // As each process has one core, libraries need no more threads than that.
            .env("OMP_NUM_THREADS", std::env::var("OMP_NUM_THREADS").unwrap_or("1".into()))
            // The one descriptor that can be passed on without being open to others for a moment.
            .stdin(theirs)
            .process_group(0);
        output(&mut command, &options.log)
            .map_err(system("cannot open the log of the processes"))?;
        let child = command.spawn().map_err(|source| Error::Interpreter {
            python: options.python.display().to_string(),
            source,
        })?;
        channel
            .send(b"bundle", &[bundle.as_fd()])
            .map_err(io::Error::other)
            .map_err(system("cannot pass a memory on"))?;
        Ok(Self { child, channel: Some(channel) })
    }

    /// What tells that there may be news; `None` once it has gone.
    pub(crate) fn channel(&self) -> Option<&Channel> {
        self.channel.as_ref()
    }

    /// Asks for a process, which gets `socket`.
    pub(crate) fn fork(&self, number: usize, socket: BorrowedFd<'_>) -> io::Result<()> {
        self.tell(&json!({ "op": "start", "number": number }), &[socket])
    }

    /// Has a process killed, with all that it has started.
    pub(crate) fn kill(&self, number: usize) -> io::Result<()> {
        self.tell(&json!({ "op": "kill", "number": number }), &[])
    }

    fn tell(&self, message: &serde_json::Value, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let channel = self.channel.as_ref().ok_or(io::ErrorKind::BrokenPipe)?;
        match channel.send(message.to_string().as_bytes(), fds) {
            Ok(true) => Ok(()),
            Ok(false) => Err(io::ErrorKind::WouldBlock.into()),
            Err(error) => Err(io::Error::other(error)),
        }
    }

    /// The next news; `Ok(None)` if there is none now.
    ///
    /// # Errors
    ///
    /// The nursery has gone, or speaks another language.
    pub(crate) fn news(&self, message: &mut Message) -> io::Result<Option<News>> {
        let channel = self.channel.as_ref().ok_or(io::ErrorKind::BrokenPipe)?;
        match channel.receive(message).map_err(io::Error::other)? {
            Received::Nothing => Ok(None),
            Received::Closed => Err(io::ErrorKind::BrokenPipe.into()),
            Received::Message => Ok(Some(serde_json::from_slice(message.bytes())?)),
        }
    }

    /// Waits until there may be news, or something on `socket`.
    pub(crate) fn wait(&self, socket: &Channel, until: Instant) -> Result<(), Error> {
        let left = until.saturating_duration_since(Instant::now());
        let left = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
        let channels = self.channel.iter().chain(std::iter::once(socket));
        let mut fds: Vec<PollFd<'_>> =
            channels.map(|channel| PollFd::new(channel, PollFlags::IN)).collect();
        match poll(&mut fds, Some(&left)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(system("cannot wait for the Python processes")(error)),
        }
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Nursery {
    fn drop(&mut self) {
        // At the end of its socket it kills all it has started, and ends.
        self.channel = None;
        if let Some(pid) = Pid::from_raw(self.child.id().cast_signed())
            && let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty())
        {
            let patience = Timespec { tv_sec: FAREWELL_S, tv_nsec: 0 };
            let _ = poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&patience));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn output(command: &mut Command, log: &Log) -> io::Result<()> {
    match log {
        Log::Stderr => {
            let stderr: OwnedFd = io::stderr().as_fd().try_clone_to_owned()?;
            command.stdout(stderr);
        }
        Log::File(path) => {
            if let Some(parent) = path.parent() {
                std::fs::create_dir_all(parent)?;
            }
            let file = OpenOptions::new().create(true).append(true).open(path)?;
            command.stdout(file.try_clone()?).stderr(file);
        }
        Log::Nowhere => {
            command.stdout(Stdio::null()).stderr(Stdio::null());
        }
    }
    Ok(())
}
