//! A program of an episode: a process with all that it starts.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::Arc,
};

use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use tokio::net::unix::pipe::Receiver;

use crate::children::{Sentry, guard::die_with_this_thread};

/// So many of the last bytes that it prints are looked at.
const OUTPUT_BYTES: usize = 64 << 10;
/// So many of the last bytes of what it says of its errors are told.
const ERRORS_BYTES: u64 = 768;
/// The environment variables of the service that are not for programs: with them they would get at the model
/// past the endpoint.
const SECRETS: [&str; 3] = ["VLLM_API_KEY", "VLLM_API_KEY_FILE", "OPENAI_API_KEY_FILE"];

/// What is started.
pub(super) struct Start<'a> {
    pub(super) command: &'a [String],
    /// Environment variables beside those of the service.
    pub(super) env: Vec<(String, String)>,
    pub(super) directory: &'a Path,
    /// Where what it prints goes.
    pub(super) log: &'a Path,
}

/// A program that runs. It is made on the thread that keeps programs, with which it dies, and dropping it
/// kills it with all that it has started.
pub(super) struct Program {
    group: Group,
    /// Can be read once it has ended.
    exit: Receiver,
    output: Receiver,
    /// Whether there may be more output.
    is_open: bool,
    tail: Vec<u8>,
    log: File,
    log_path: PathBuf,
    /// Where in the log it begins.
    log_begin: u64,
}

/// What a program that has ended has left.
pub(super) struct Left {
    pub(super) status: io::Result<ExitStatus>,
    /// The end of its standard output.
    pub(super) output: Vec<u8>,
    /// The end of its standard error, for people.
    pub(super) errors: String,
}

impl Program {
    /// Starts one.
    pub(super) fn start(start: &Start<'_>, sentry: &Arc<Sentry>) -> io::Result<Self> {
        let (program, arguments) = start
            .command
            .split_first()
            .ok_or_else(|| io::Error::other("there is no program to start"))?;
        if let Some(parent) = start.log.parent() {
            fs::create_dir_all(parent)?;
        }
        let log = OpenOptions::new().create(true).append(true).open(start.log)?;
        let log_begin = log.metadata()?.len();
        let mut command = Command::new(program);
        for name in SECRETS {
            command.env_remove(name);
        }
        command
            .args(arguments)
            .envs(start.env.iter().map(|(name, value)| (name, value)))
            .current_dir(start.directory)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log.try_clone()?)
            .process_group(0);
        die_with_this_thread(&mut command);
        let mut group = Group::of(command.spawn()?, sentry);
        let output = group.child.stdout.take();
        let output = output.ok_or_else(|| io::Error::other("its output cannot be read"))?;
        let exit = pidfd_open(group.pid, PidfdFlags::empty())?;
        Ok(Self {
            group,
            // It is no pipe, but is waited for as one: nothing is ever read from it.
            exit: Receiver::from_owned_fd_unchecked(exit)?,
            output: Receiver::from_owned_fd(output.into())?,
            is_open: true,
            tail: Vec::new(),
            log,
            log_path: start.log.to_owned(),
            log_begin,
        })
    }

    /// Waits until it has ended; what it prints meanwhile is kept.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost.
    pub(super) async fn ended(&mut self) {
        let mut buffer = [0; 4096];
        loop {
            let readable = tokio::select! {
                _ = self.exit.readable() => return,
                readable = self.output.readable(), if self.is_open => readable,
            };
            match readable.and_then(|()| self.output.try_read(&mut buffer)) {
                Ok(count @ 1..) => keep(&mut self.tail, &mut self.log, &buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(0) | Err(_) => self.is_open = false,
            }
        }
    }

    /// Asks it to end, and all that it has started.
    pub(super) fn terminate(&self) {
        // A group that is gone needs no signal.
        let _ = kill_process_group(self.group.pid, Signal::TERM);
    }

    /// Kills what is left of it.
    pub(super) fn end(mut self) -> Left {
        let status = self.group.end();
        let Self { output, mut tail, mut log, log_path, log_begin, .. } = self;
        // What else holds the other end open is not waited for.
        if let Ok(output) = output.into_nonblocking_fd() {
            let (mut output, mut buffer) = (File::from(output), [0; 4096]);
            while let Ok(count @ 1..) = output.read(&mut buffer) {
                keep(&mut tail, &mut log, &buffer[..count]);
            }
        }
        let errors = said(&log_path, log_begin).unwrap_or_default();
        Left { status, output: tail, errors }
    }
}

/// Keeps the end of what was printed, and writes all of it down.
fn keep(tail: &mut Vec<u8>, log: &mut File, printed: &[u8]) {
    // What cannot be written down is missed by nobody but who looks there.
    let _ = log.write_all(printed);
    tail.extend_from_slice(printed);
    let more = tail.len().saturating_sub(OUTPUT_BYTES);
    tail.drain(..more);
}

/// The end of what was written to a log from somewhere on.
fn said(log: &Path, begin: u64) -> io::Result<String> {
    let mut file = File::open(log)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(begin.max(length.saturating_sub(ERRORS_BYTES))))?;
    let mut bytes = Vec::new();
    file.take(ERRORS_BYTES).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
}

/// A process that leads a group, which ends with this at the latest, and with the engine in any case.
struct Group {
    child: Child,
    pid: Pid,
    sentry: Arc<Sentry>,
    is_reaped: bool,
}

impl Group {
    fn of(child: Child, sentry: &Arc<Sentry>) -> Self {
        let pid = Pid::from_child(&child);
        sentry.watch(pid);
        Self { child, pid, sentry: Arc::clone(sentry), is_reaped: false }
    }

    fn end(&mut self) -> io::Result<ExitStatus> {
        if !std::mem::replace(&mut self.is_reaped, true) {
            // Before it is reaped, while its number cannot be another's.
            let _ = kill_process_group(self.pid, Signal::KILL);
            self.sentry.dismiss(self.pid);
        }
        self.child.wait()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Nobody is there to hear how.
        let _ = self.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left(script: &str) -> Left {
        let directory = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let command = ["/bin/sh".to_owned(), "-c".into(), script.into()];
        runtime.block_on(async {
            let start = Start {
                command: &command,
                env: vec![("NAME".into(), "value".into())],
                directory: directory.path(),
                log: &directory.path().join("logs/0.log"),
            };
            let mut program = Program::start(&start, &Arc::new(Sentry::post())).unwrap();
            program.ended().await;
            program.end()
        })
    }

    #[test]
    fn what_it_prints_and_how_it_ends_is_known() {
        let left = left("echo out $NAME; echo err >&2; exit 3");
        assert_eq!(left.status.unwrap().code(), Some(3));
        assert_eq!(left.output, b"out value\n");
        assert!(left.errors.contains("err"), "{}", left.errors);
    }

    #[test]
    fn only_the_end_of_much_output_is_kept() {
        let left = left("head -c 300000 /dev/zero | tr '\\0' x; echo; echo last");
        assert_eq!(left.output.len(), OUTPUT_BYTES);
        assert!(left.output.ends_with(b"x\nlast\n"));
    }

    #[test]
    fn what_it_has_started_ends_with_it() {
        // It keeps the output open, and would for ever.
        let left = left("sleep 600 & echo $!");
        let pid = String::from_utf8(left.output).unwrap();
        let stat = format!("/proc/{}/stat", pid.trim());
        let is_gone = || {
            // Nobody may have waited for it yet.
            fs::read_to_string(&stat).map_or(true, |it| it.contains(") Z "))
        };
        envmill_testing::wait_until("it is gone", std::time::Duration::from_secs(60), is_gone);
    }
}
