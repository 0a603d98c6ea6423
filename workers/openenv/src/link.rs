//! A connected socket, plain or encrypted, read and written without ever waiting.

use std::{
    io::{self, ErrorKind, Read, Write},
    mem,
};

use mio::{event, net::TcpStream};
use rustls::ClientConnection;

/// A TCP socket that remembers what the event queue and its last calls said about it, so that no
/// system call is made whose answer is known.
///
/// The queue is edge-triggered: it speaks once when something changes. A read that filled less than
/// its buffer has emptied the socket, and what arrives after it is announced anew; so until then
/// reading again would be for nothing. The exception is the end of the stream, which may have been
/// announced together with the bytes before it: once it was, every read is made.
#[derive(Debug)]
pub(crate) struct Socket {
    stream: TcpStream,
    readable: bool,
    writable: bool,
    ending: bool,
    traffic: Traffic,
}

/// Bytes that went through a socket.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Traffic {
    /// Received.
    pub(crate) bytes_in: u64,
    /// Sent.
    pub(crate) bytes_out: u64,
}

impl Socket {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self { stream, readable: true, writable: true, ending: false, traffic: Traffic::default() }
    }

    pub(crate) fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    fn notice(&mut self, event: &event::Event) {
        self.ending |= event.is_read_closed() || event.is_error();
        self.readable |= event.is_readable() || self.ending;
        self.writable |= event.is_writable() || event.is_error();
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if !self.readable {
            return Err(ErrorKind::WouldBlock.into());
        }
        let result = loop {
            match self.stream.read(buffer) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                result => break result,
            }
        };
        match &result {
            Ok(n) => {
                self.traffic.bytes_in += *n as u64;
                self.readable = *n == buffer.len() || self.ending;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => self.readable = false,
            Err(_) => {}
        }
        result
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !self.writable {
            return Err(ErrorKind::WouldBlock.into());
        }
        let result = loop {
            match self.stream.write(bytes) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                result => break result,
            }
        };
        match &result {
            Ok(n) => {
                self.traffic.bytes_out += *n as u64;
                self.writable = *n == bytes.len();
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => self.writable = false,
            Err(_) => {}
        }
        result
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A connection of bytes to a server.
#[derive(Debug)]
pub(crate) enum Link {
    /// As they are.
    Plain(Socket),
    /// Through TLS.
    Tls(Box<Encrypted>),
}

/// A socket with the client's half of a TLS connection.
#[derive(Debug)]
pub(crate) struct Encrypted {
    socket: Socket,
    connection: ClientConnection,
}

impl Link {
    pub(crate) fn plain(socket: Socket) -> Self {
        Self::Plain(socket)
    }

    pub(crate) fn encrypted(socket: Socket, connection: ClientConnection) -> Self {
        Self::Tls(Box::new(Encrypted { socket, connection }))
    }

    fn socket(&mut self) -> &mut Socket {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(encrypted) => &mut encrypted.socket,
        }
    }

    /// Takes note of what the event queue says.
    pub(crate) fn notice(&mut self, event: &event::Event) {
        self.socket().notice(event);
    }

    /// Takes note that the peer seems to be gone: what it sent before is to be read all the same.
    pub(crate) fn expect_end(&mut self) {
        let socket = self.socket();
        socket.ending = true;
        socket.readable = true;
    }

    /// What went through since the last call.
    pub(crate) fn take_traffic(&mut self) -> Traffic {
        mem::take(&mut self.socket().traffic)
    }

    /// Reads into `buffer`; `Ok(0)` is the end of the stream.
    ///
    /// # Errors
    ///
    /// `WouldBlock` when nothing is there. A failure of TLS is an `InvalidData` that holds
    /// a [`rustls::Error`]. All but the former end the connection.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.read(buffer),
            Self::Tls(encrypted) => encrypted.read(buffer),
        }
    }

    /// Writes some of `bytes`, and what an earlier write left inside TLS.
    ///
    /// # Errors
    ///
    /// As for [`read`](Self::read).
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.write(bytes),
            Self::Tls(encrypted) => encrypted.write(bytes),
        }
    }

    /// Writes what an earlier write left inside TLS; nothing for a plain link.
    ///
    /// # Errors
    ///
    /// As for [`read`](Self::read), but never `WouldBlock`.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(_) => Ok(()),
            Self::Tls(encrypted) => encrypted.flush(),
        }
    }
}

impl Encrypted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.connection.reader().read(buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                // The peer left without saying goodbye in TLS; WebSocket has its own close frame.
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(0),
                result => return result,
            }
            self.connection.read_tls(&mut self.socket)?;
            let processed = self.connection.process_new_packets();
            // The handshake's answers, or the alert that says what was wrong.
            let flushed = self.flush();
            processed.map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
            flushed?;
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // rustls takes at most 64 KiB before it wants them sent.
        let taken = self.connection.writer().write(bytes)?;
        self.flush()?;
        if taken == 0 && !bytes.is_empty() {
            return Err(ErrorKind::WouldBlock.into());
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        while self.connection.wants_write() {
            match self.connection.write_tls(&mut self.socket) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                result => result?,
            };
        }
        Ok(())
    }
}

/// What could not be written yet.
///
/// Empty and without memory in the usual case, where the socket takes a whole request at once.
#[derive(Debug, Default)]
pub(crate) struct Backlog(Vec<u8>);

impl Backlog {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Writes `bytes` after what is waiting, and keeps what the link does not take.
    ///
    /// # Errors
    ///
    /// Those that end the connection.
    pub(crate) fn send(&mut self, bytes: &[u8], link: &mut Link) -> io::Result<()> {
        if !self.0.is_empty() {
            self.0.extend_from_slice(bytes);
            return self.flush(link);
        }
        let written = write_some(bytes, link)?;
        self.0.extend_from_slice(&bytes[written..]);
        Ok(())
    }

    /// Writes what is waiting, as far as the link takes it.
    ///
    /// # Errors
    ///
    /// Those that end the connection.
    pub(crate) fn flush(&mut self, link: &mut Link) -> io::Result<()> {
        if self.0.is_empty() {
            return link.flush();
        }
        let written = write_some(&self.0, link)?;
        if written == self.0.len() {
            self.0 = Vec::new();
        } else {
            self.0.drain(..written);
        }
        Ok(())
    }
}

fn write_some(bytes: &[u8], link: &mut Link) -> io::Result<usize> {
    let mut written = 0;
    while written < bytes.len() {
        match link.write(&bytes[written..]) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(n) => written += n,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
    }
    Ok(written)
}
