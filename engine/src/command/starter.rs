//! The process that has started this one, and with which it is to end.

use std::{io, thread, time::Duration};

use rustix::{
    event::{PollFd, PollFlags, poll},
    io::Errno,
    process::{Pid, PidfdFlags, Signal, getpid, getppid, kill_process, pidfd_open},
};

/// How long this process gets to end by itself.
const GRACE: Duration = Duration::from_secs(10);

/// Ends this process once the one that has started it, `pid`, has ended in whatever way: as SIGTERM
/// does, and by force if that takes too long. (The kernel's own signal for it would come when the
/// *thread* ends that has started us, and a pipe stays open in what else was forked.)
pub(super) fn end_with(pid: u32) -> io::Result<()> {
    let starter = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let starter = starter.ok_or_else(|| io::Error::other(format!("there is no process {pid}")))?;
    let watched = pidfd_open(starter, PidfdFlags::empty())?;
    // From here on the id cannot have gone to another process unseen.
    if getppid() != Some(starter) {
        return Err(io::Error::other(format!(
            "process {pid} has not started this one, or has ended"
        )));
    }
    thread::Builder::new().name("starter".into()).spawn(move || {
        let mut ends = [PollFd::new(&watched, PollFlags::IN)];
        while let Err(Errno::INTR) = poll(&mut ends, None) {}
        let _ = kill_process(getpid(), Signal::TERM);
        thread::park_timeout(GRACE);
        let _ = kill_process(getpid(), Signal::KILL);
    })?;
    Ok(())
}
