//! Where strangers on this host ask for a channel: a socket with a name in the file system.

use std::{
    fs, io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
    path::{Path, PathBuf},
};

use rustix::{
    fs::Mode,
    io::Errno,
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType},
};

use crate::Channel;

/// So many peers may wait to be accepted; more are refused.
const BACKLOG: i32 = 64;

/// A Unix socket (`SOCK_SEQPACKET`) at a path, of mode 0600, which gives a [`Channel`] to each peer that
/// comes. The file goes with it; one that a killed process has left is replaced.
///
/// Nothing here blocks.
#[derive(Debug)]
pub struct Listener {
    socket: OwnedFd,
    path: PathBuf,
}

impl Listener {
    /// Listens at `path`. Whatever socket is there is replaced: the caller sees to it that no living
    /// process listens there, such as by a lock.
    ///
    /// # Errors
    ///
    /// When the path is longer than the 107 bytes that an address has, its directory cannot be written
    /// to, or something else than a socket is there.
    pub fn bind(path: &Path) -> io::Result<Self> {
        let address = SocketAddrUnix::new(path)?;
        remove_socket(path)?;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket =
            rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        // Before it has a name: the file is made with these permissions, and never has others.
        rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
        rustix::net::bind(&socket, &address)?;
        let listener = Self { socket, path: path.to_owned() };
        rustix::net::listen(&listener.socket, BACKLOG)?;
        Ok(listener)
    }

    /// Where it listens.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The next peer that has come; `None` if there is none: wait until the socket can be read.
    ///
    /// # Errors
    ///
    /// When the process has no descriptors left; the peer goes on to wait.
    pub fn accept(&self) -> io::Result<Option<Channel>> {
        loop {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            return match rustix::net::accept_with(&self.socket, flags) {
                Ok(socket) => Ok(Some(Channel::from(socket))),
                Err(Errno::INTR | Errno::CONNABORTED) => continue,
                Err(Errno::AGAIN) => Ok(None),
                Err(error) => Err(error.into()),
            };
        }
    }
}

/// A socket that is left over goes; anything else stays.
fn remove_socket(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::FileTypeExt as _;
    match fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => fs::remove_file(path),
        Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = remove_socket(&self.path);
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for Listener {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

impl Channel {
    /// A channel to whoever [listens](Listener) at `path`.
    ///
    /// # Errors
    ///
    /// When nobody does, too many wait there already, or the path is not this user's.
    pub fn connect(path: &Path) -> io::Result<Self> {
        let address = SocketAddrUnix::new(path)?;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket =
            rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        rustix::net::connect(&socket, &address)?;
        Ok(Self::from(socket))
    }

    /// Whether the peer ran as the same user as this process when the channel was made.
    ///
    /// # Errors
    ///
    /// When the socket is none of the kernel's own.
    pub fn is_of_same_user(&self) -> io::Result<bool> {
        let peer = rustix::net::sockopt::socket_peercred(self)?;
        Ok(peer.uid == rustix::process::geteuid())
    }
}
