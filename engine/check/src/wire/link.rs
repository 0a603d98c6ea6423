//! A connection whose reads and writes have one deadline.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use rustls::{ClientConnection, StreamOwned};

use super::{stop::Stop, trouble::STOPPED};

/// How long one system call waits at most before it is looked whether to stop.
const SLICE: Duration = Duration::from_millis(100);

enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

/// TCP, with or without TLS.
pub(crate) struct Link {
    stream: Stream,
    stop: Stop,
    deadline: Instant,
}

impl Link {
    pub(super) fn new(tcp: TcpStream, tls: Option<ClientConnection>, stop: Stop) -> Self {
        let stream = match tls {
            Some(tls) => Stream::Tls(Box::new(StreamOwned::new(tls, tcp))),
            None => Stream::Plain(tcp),
        };
        Self { stream, stop, deadline: Instant::now() }
    }

    /// What is read and written from now on has to be done within `wait`.
    pub(super) fn within(&mut self, wait: Duration) {
        self.deadline = Instant::now() + wait;
    }

    /// The socket below.
    pub(crate) fn tcp(&self) -> &TcpStream {
        match &self.stream {
            Stream::Plain(tcp) => tcp,
            Stream::Tls(tls) => tls.get_ref(),
        }
    }

    /// Tries until it is done, too late, or told to stop.
    fn patiently<T>(
        &mut self,
        mut attempt: impl FnMut(&mut Stream) -> io::Result<T>,
    ) -> io::Result<T> {
        loop {
            if self.stop.is_asked() {
                return Err(io::Error::other(STOPPED));
            }
            let left = self.deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            let slice = Some(left.min(SLICE));
            self.tcp().set_read_timeout(slice)?;
            self.tcp().set_write_timeout(slice)?;
            match attempt(&mut self.stream) {
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::WouldBlock
                            | io::ErrorKind::TimedOut
                            | io::ErrorKind::Interrupted
                    ) => {}
                done => return done,
            }
        }
    }
}

impl Read for Link {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.patiently(|stream| match stream {
            Stream::Plain(tcp) => tcp.read(buffer),
            Stream::Tls(tls) => tls.read(buffer),
        })
    }
}

impl Write for Link {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.patiently(|stream| match stream {
            Stream::Plain(tcp) => tcp.write(bytes),
            Stream::Tls(tls) => tls.write(bytes),
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        self.patiently(|stream| match stream {
            Stream::Plain(tcp) => tcp.flush(),
            Stream::Tls(tls) => tls.flush(),
        })
    }
}
