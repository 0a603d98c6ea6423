//! Passing small messages with descriptors: how two processes get to know each other's segments.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
    time::Instant,
};

use rustix::{
    io::{Errno, FdFlags},
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
        SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
    },
};

use crate::doorbell::wait;

/// The longest message, in bytes.
pub const MESSAGE_BYTES_MAX: usize = 64 * 1024;

/// The most descriptors that go with one message.
pub const DESCRIPTORS_MAX: usize = 16;

/// One end of a Unix socket of whole messages (`SOCK_SEQPACKET`). It ends when the other side's last
/// copy of its end is closed, so that a killed peer is noticed at once.
///
/// Nothing here blocks, whatever the flags of the socket.
#[derive(Debug)]
pub struct Channel {
    socket: OwnedFd,
}

/// A message and the descriptors that came with it. To be reused: it keeps its room.
#[derive(Debug)]
pub struct Message {
    room: Box<[u8]>,
    length: usize,
    descriptors: Vec<OwnedFd>,
}

/// What there was to receive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// A message.
    Message,
    /// Nothing yet: wait until the channel can be read.
    Nothing,
    /// The peer has closed its end, or died.
    Closed,
}

/// Why a message cannot be sent.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// An empty message would look like the end, and a long one does not go in one piece.
    #[error("a message of {0} bytes: it must have 1 to {MESSAGE_BYTES_MAX}")]
    Length(usize),
    /// Too many descriptors for one message.
    #[error("{0} descriptors with one message: there may be {DESCRIPTORS_MAX}")]
    Descriptors(usize),
    /// The peer has closed its end, or died.
    #[error("the peer is gone")]
    Closed,
    /// The kernel refused it.
    #[error("cannot send a message")]
    Io(#[source] io::Error),
}

/// Why a message is not taken. It is lost, and the descriptors that came with it are closed. The peer
/// is broken: give it up.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// It is longer than any may be.
    #[error("the peer's message has more than {MESSAGE_BYTES_MAX} bytes")]
    TooLong,
    /// More descriptors came than may, or than this process has room for.
    #[error("more than {DESCRIPTORS_MAX} descriptors came with a message, or there is no room")]
    Descriptors,
    /// The kernel refused it.
    #[error("cannot receive a message")]
    Io(#[source] io::Error),
}

impl Channel {
    /// Two connected ends: one for this process, one for another. Both are closed on `exec`.
    ///
    /// The other end goes to a child most safely as one of its standard streams
    /// (`command.stdin(Stdio::from(end))`), which no other child can inherit by accident. If it has to
    /// have a number of its own, see [`inheritable`].
    ///
    /// # Errors
    ///
    /// When the process has no descriptors left.
    pub fn pair() -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) = rustix::net::socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        Ok((Self { socket: ours }, theirs))
    }

    /// Sends `bytes` and `descriptors` as one message. False if the socket has no room now: wait until
    /// the peer has received something.
    ///
    /// # Errors
    ///
    /// When the message is not one that can be sent, or the peer is gone.
    pub fn send(&self, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> Result<bool, SendError> {
        if bytes.is_empty() || bytes.len() > MESSAGE_BYTES_MAX {
            return Err(SendError::Length(bytes.len()));
        }
        let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut control = SendAncillaryBuffer::new(&mut room);
        if descriptors.len() > DESCRIPTORS_MAX
            || !descriptors.is_empty()
                && !control.push(SendAncillaryMessage::ScmRights(descriptors))
        {
            return Err(SendError::Descriptors(descriptors.len()));
        }
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        loop {
            return match rustix::net::sendmsg(
                &self.socket,
                &[IoSlice::new(bytes)],
                &mut control,
                flags,
            ) {
                Ok(_) => Ok(true),
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => Ok(false),
                Err(Errno::PIPE | Errno::CONNRESET | Errno::NOTCONN) => Err(SendError::Closed),
                Err(error) => Err(SendError::Io(error.into())),
            };
        }
    }

    /// [Receives](Self::receive) the next message, and waits for it until then. [`Received::Nothing`] if it
    /// has not come.
    ///
    /// # Errors
    ///
    /// When the message is larger than allowed in any way, or the kernel cannot wait.
    pub fn receive_until(
        &self,
        message: &mut Message,
        until: Instant,
    ) -> Result<Received, ReceiveError> {
        let mut ready = Vec::new();
        loop {
            let received = self.receive(message)?;
            let left = until.saturating_duration_since(Instant::now());
            if received != Received::Nothing || left.is_zero() {
                return Ok(received);
            }
            wait(&[self.as_fd()], Some(left), &mut ready).map_err(ReceiveError::Io)?;
        }
    }

    /// Receives the next message into `message`, whose bytes and descriptors it replaces. Descriptors
    /// that nobody has taken out of it are closed. Those received are closed on `exec`.
    ///
    /// # Errors
    ///
    /// When the message is larger than allowed in any way.
    pub fn receive(&self, message: &mut Message) -> Result<Received, ReceiveError> {
        message.length = 0;
        message.descriptors.clear();
        let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        // Dropping it closes what it still holds.
        let mut control = RecvAncillaryBuffer::new(&mut room);
        let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
        let received = loop {
            let into = &mut [IoSliceMut::new(&mut message.room)];
            match rustix::net::recvmsg(&self.socket, into, &mut control, flags) {
                Ok(received) => break received,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(Received::Nothing),
                Err(Errno::CONNRESET) => return Ok(Received::Closed),
                Err(error) => return Err(ReceiveError::Io(error.into())),
            }
        };
        if received.flags.contains(ReturnFlags::TRUNC) {
            return Err(ReceiveError::TooLong);
        }
        if received.flags.contains(ReturnFlags::CTRUNC) {
            return Err(ReceiveError::Descriptors);
        }
        for part in control.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = part {
                message.descriptors.extend(descriptors);
            }
        }
        // The room for them may be rounded up to more than are allowed.
        if message.descriptors.len() > DESCRIPTORS_MAX {
            message.descriptors.clear();
            return Err(ReceiveError::Descriptors);
        }
        message.length = received.bytes;
        // No message is empty, so that this is the end; descriptors without bytes are closed.
        if received.bytes == 0 {
            message.descriptors.clear();
            return Ok(Received::Closed);
        }
        Ok(Received::Message)
    }
}

/// Takes a socket that was inherited or accepted; it must be a connected `SOCK_SEQPACKET` one.
impl From<OwnedFd> for Channel {
    fn from(socket: OwnedFd) -> Self {
        Self { socket }
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for Channel {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

impl Message {
    /// An empty message with room for any.
    #[must_use]
    pub fn new() -> Self {
        let room = vec![0; MESSAGE_BYTES_MAX].into_boxed_slice();
        Self { room, length: 0, descriptors: Vec::new() }
    }

    /// The bytes received last.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.room[..self.length]
    }

    /// The descriptors received last, in their order, to be taken out.
    pub const fn descriptors(&mut self) -> &mut Vec<OwnedFd> {
        &mut self.descriptors
    }
}

impl Default for Message {
    fn default() -> Self {
        Self::new()
    }
}

/// Lets children inherit a descriptor, by its number.
///
/// Every child that this process starts from here on inherits it, those that other threads start
/// included. A channel whose end has leaked so into a child does not end when its peer dies: close
/// the descriptor as soon as the child is started.
///
/// # Errors
///
/// When the kernel refuses.
pub fn inheritable(descriptor: BorrowedFd<'_>) -> io::Result<()> {
    Ok(rustix::io::fcntl_setfd(descriptor, FdFlags::empty())?)
}
