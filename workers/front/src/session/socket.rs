//! A connection as tungstenite reads and writes it.

use std::{
    io::{self, Read, Write},
    net::Shutdown,
    task::{Context, Poll},
};

use socket2::SockRef;
use tokio::{io::Interest, net::TcpStream};

/// A non-blocking TCP stream with what was read of it too early.
#[derive(Debug)]
pub(super) struct Socket {
    stream: TcpStream,
    /// Bytes that came with the HTTP request, and how many of them have been taken.
    early: (Vec<u8>, usize),
    /// Bytes read so far.
    pub(super) fed: u64,
}

impl Socket {
    pub(super) fn new(stream: TcpStream, early: Vec<u8>) -> Self {
        Self { stream, early: (early, 0), fed: 0 }
    }

    pub(super) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.poll_read_ready(cx)
    }

    pub(super) fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.poll_write_ready(cx)
    }

    /// Says that nothing more will be written.
    pub(super) fn finish(&self) {
        let _ = SockRef::from(&self.stream).shutdown(Shutdown::Write);
    }
}

impl Read for Socket {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let (early, taken) = &mut self.early;
        if !early.is_empty() {
            let count = out.len().min(early.len() - *taken);
            out[..count].copy_from_slice(&early[*taken..*taken + count]);
            *taken += count;
            if *taken == early.len() {
                self.early = (Vec::new(), 0);
            }
            self.fed += count as u64;
            return Ok(count);
        }
        let count = self.stream.try_read(out)?;
        if count > 0 && count < out.len() {
            // A short read has emptied the socket: the next one would only say so, with a system
            // call. Edge-triggered readiness comes anew with the next byte. (On a runtime of one
            // thread nothing can arrive between the two lines.)
            let _ = self
                .stream
                .try_io(Interest::READABLE, || Err::<(), _>(io::ErrorKind::WouldBlock.into()));
        }
        self.fed += count as u64;
        Ok(count)
    }
}

impl Write for Socket {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.stream.try_write(data)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
