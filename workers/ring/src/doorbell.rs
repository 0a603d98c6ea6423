//! Doorbells: how one side tells the other that there is something to look at.

use std::{
    io::{self, IoSliceMut},
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
    time::{Duration, Instant},
};

use rustix::{
    event::{EventfdFlags, PollFd, PollFlags, Timespec},
    io::{Errno, ReadWriteFlags},
};

/// An eventfd. One side rings, the other drains; rings that nobody has drained yet are one.
///
/// It is an eventfd rather than a futex because it can be waited for together with sockets, by epoll,
/// mio, tokio and Python's `selectors`, and because it is passed to another process as a descriptor,
/// without an address in shared memory that the peer could write nonsense to. It costs a system call
/// for each ring, which is why a ring goes with a batch and not with a row.
///
/// Drain *before* looking at counters: a batch published after the look rings again, so that no batch
/// is missed. A doorbell carries no information that has to be believed; a peer that rings without
/// reason costs a look.
#[derive(Debug)]
pub struct Doorbell {
    event: OwnedFd,
}

impl Doorbell {
    /// Makes a doorbell, non-blocking and closed on `exec`.
    ///
    /// # Errors
    ///
    /// When the process has no descriptor left.
    pub fn new() -> io::Result<Self> {
        let flags = EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC;
        Ok(Self { event: rustix::event::eventfd(0, flags)? })
    }

    /// Rings. Does not block, unless a hostile peer has filled the counter and taken the non-blocking
    /// flag off, which belongs to both ends of a passed descriptor. Where a peer may do that, let it
    /// have a [`Channel`](crate::Channel) message instead, which never blocks.
    ///
    /// # Errors
    ///
    /// When the descriptor, which may have come from a peer, is no eventfd that can be written to.
    pub fn ring(&self) -> io::Result<()> {
        retry(|| match rustix::io::write(&self.event, &1_u64.to_ne_bytes()) {
            // It has been rung 2^64 - 2 times without being drained: it rings.
            Ok(_) | Err(Errno::AGAIN) => Ok(()),
            Err(error) => Err(error),
        })
    }

    /// Silences it, and says whether it had been rung. Never blocks, even if a peer has taken the
    /// non-blocking flag off (on kernels older than Linux 5.7 it then does).
    ///
    /// # Errors
    ///
    /// When the descriptor, which may have come from a peer, is no eventfd that can be read.
    pub fn drain(&self) -> io::Result<bool> {
        let mut count = [0_u8; 8];
        retry(|| {
            let into = &mut [IoSliceMut::new(&mut count)];
            let here = u64::MAX;
            let mut read = rustix::io::preadv2(&self.event, into, here, ReadWriteFlags::NOWAIT);
            if read == Err(Errno::OPNOTSUPP) {
                read = rustix::io::read(&self.event, &mut count);
            }
            match read {
                Ok(_) => Ok(true),
                Err(Errno::AGAIN) => Ok(false),
                Err(error) => Err(error),
            }
        })
    }
}

/// Takes a descriptor that a peer has passed. What it is shows when it is used.
impl From<OwnedFd> for Doorbell {
    fn from(event: OwnedFd) -> Self {
        Self { event }
    }
}

impl From<Doorbell> for OwnedFd {
    fn from(doorbell: Doorbell) -> Self {
        doorbell.event
    }
}

impl AsFd for Doorbell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}

impl AsRawFd for Doorbell {
    fn as_raw_fd(&self) -> RawFd {
        self.event.as_raw_fd()
    }
}

/// Waits until one of `descriptors` (doorbells, sockets) can be read or is at its end, or until
/// `timeout` is over; without one, for ever. The indices of those that can be read replace what is in
/// `ready`: none if the time is over.
///
/// For a few descriptors; who has hundreds registers them with epoll.
///
/// # Errors
///
/// When the kernel has no memory for it.
pub fn wait(
    descriptors: &[BorrowedFd<'_>],
    timeout: Option<Duration>,
    ready: &mut Vec<usize>,
) -> io::Result<()> {
    ready.clear();
    let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    let mut polled: Vec<PollFd<'_>> =
        descriptors.iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)).collect();
    retry(|| {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let left = left.map(|left| Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        });
        rustix::event::poll(&mut polled, left.as_ref())
    })?;
    let rung = polled.iter().enumerate().filter(|(_, fd)| !fd.revents().is_empty());
    ready.extend(rung.map(|(index, _)| index));
    Ok(())
}

/// Tries again when a signal has come in between.
fn retry<T>(mut call: impl FnMut() -> Result<T, Errno>) -> io::Result<T> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            outcome => return Ok(outcome?),
        }
    }
}
