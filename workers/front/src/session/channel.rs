//! Messages over a socket, without waiting.

use std::{
    io::{self, Read},
    task::{Context, Poll},
};

use bytes::Bytes;
use tokio::net::TcpStream;
use tungstenite::{
    Error, Message, Utf8Bytes,
    protocol::{CloseFrame, Role, WebSocketConfig, WebSocketContext, frame::coding::CloseCode},
};

use super::socket::Socket;

/// What is asked of the kernel at once. Most messages of a session are smaller; larger ones are read
/// into a buffer of their own size.
const READ_BUFFER_BYTES: usize = 1024;

/// After a message larger than this the buffers are given back.
const LARGE_BYTES: usize = 32 * 1024;

/// One side of a WebSocket connection.
pub(super) struct Channel {
    socket: Socket,
    context: WebSocketContext,
    config: WebSocketConfig,
    /// Whether something is written that the kernel has not taken.
    unflushed: bool,
    /// Bytes of the frames taken out of the context, if none was fragmented. Equal to what was fed
    /// only if nothing of a next frame waits in the context's buffer.
    taken: u64,
    /// Whether a large message has gone through since the buffers were fresh.
    large: bool,
}

/// What a client sent.
#[derive(Debug)]
pub(super) enum Received {
    Text(Bytes),
    Binary,
    Pong,
    /// A ping, answered already.
    Ping,
    /// A close frame, answered already.
    Close,
}

/// Why nothing more can be received.
#[derive(Debug)]
pub(super) enum Broken {
    /// The connection is gone, or the closing handshake is done.
    Gone,
    /// What came breaks the rules of WebSocket; the code to close with.
    Violation(CloseCode, String),
}

impl Channel {
    pub(super) fn new(stream: TcpStream, early: Vec<u8>, message_bytes_max: usize) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER_BYTES)
            .write_buffer_size(0)
            .max_message_size(Some(message_bytes_max))
            .max_frame_size(Some(message_bytes_max));
        Self {
            socket: Socket::new(stream, early),
            context: WebSocketContext::new(Role::Server, Some(config)),
            config,
            unflushed: false,
            taken: 0,
            large: false,
        }
    }

    /// The next message. After `Pending` the task is woken when more has come.
    pub(super) fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Result<Received, Broken>> {
        loop {
            match self.context.read(&mut self.socket) {
                Ok(message) => return Poll::Ready(Ok(self.received(message))),
                Err(error) if would_block(&error) => {
                    self.give_back();
                    match self.socket.poll_readable(cx) {
                        Poll::Ready(Ok(())) => {}
                        Poll::Ready(Err(_)) => return Poll::Ready(Err(Broken::Gone)),
                        Poll::Pending => return Poll::Pending,
                    }
                }
                Err(error) => return Poll::Ready(Err(broken(&error))),
            }
        }
    }

    fn received(&mut self, message: Message) -> Received {
        let length = message.len();
        let header = match length {
            ..126 => 2,
            126..=0xFFFF => 4,
            _ => 10,
        };
        self.taken += length as u64 + header + 4;
        self.large |= length > LARGE_BYTES;
        match message {
            Message::Text(text) => Received::Text(text.into()),
            // Tungstenite hands out whole messages, never bare frames.
            Message::Binary(_) | Message::Frame(_) => Received::Binary,
            Message::Ping(_) => Received::Ping,
            Message::Pong(_) => Received::Pong,
            Message::Close(_) => Received::Close,
        }
    }

    /// Gives large buffers back when there is nothing in them.
    fn give_back(&mut self) {
        if self.large && !self.unflushed && self.taken == self.socket.fed {
            self.context = WebSocketContext::new(Role::Server, Some(self.config));
            self.large = false;
        }
    }

    /// Writes a text message; what the kernel does not take now is written by
    /// [`poll_flush`](Self::poll_flush). `false` if the text is not UTF-8, and nothing was written.
    pub(super) fn send_text(&mut self, text: Vec<u8>) -> bool {
        self.large |= text.len() > LARGE_BYTES;
        let Ok(text) = Utf8Bytes::try_from(text) else { return false };
        self.send(Message::Text(text));
        true
    }

    pub(super) fn send_ping(&mut self) {
        self.send(Message::Ping(Bytes::new()));
    }

    fn send(&mut self, message: Message) {
        // A connection that is gone says so when it is read from.
        if let Err(error) = self.context.write(&mut self.socket, message) {
            self.unflushed = would_block(&error);
        }
    }

    /// Begins the closing handshake.
    pub(super) fn close(&mut self, code: CloseCode, reason: &str) {
        let frame = CloseFrame { code, reason: reason.into() };
        if let Err(error) = self.context.close(&mut self.socket, Some(frame)) {
            self.unflushed = would_block(&error);
        }
    }

    pub(super) const fn is_flushed(&self) -> bool {
        !self.unflushed
    }

    /// Writes what is left. After `Pending` the task is woken when the kernel takes more.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.unflushed {
            match self.context.flush(&mut self.socket) {
                Err(error) if would_block(&error) => {
                    if self.socket.poll_writable(cx).is_pending() {
                        return Poll::Pending;
                    }
                }
                Ok(()) | Err(_) => self.unflushed = false,
            }
        }
        Poll::Ready(())
    }

    /// Says that nothing more will be written.
    pub(super) fn finish(&self) {
        self.socket.finish();
    }

    /// Throws away what still comes: how many bytes, 0 at the end.
    pub(super) fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<usize> {
        let mut scratch = [0; 4096];
        loop {
            match self.socket.read(&mut scratch) {
                Ok(count) => return Poll::Ready(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if self.socket.poll_readable(cx).is_pending() {
                        return Poll::Pending;
                    }
                }
                Err(_) => return Poll::Ready(0),
            }
        }
    }
}

fn would_block(error: &Error) -> bool {
    matches!(error, Error::Io(error) if error.kind() == io::ErrorKind::WouldBlock)
}

fn broken(error: &Error) -> Broken {
    match error {
        Error::Capacity(tungstenite::error::CapacityError::MessageTooLong { max_size, .. }) => {
            Broken::Violation(CloseCode::Size, format!("frame exceeds limit of {max_size} bytes"))
        }
        Error::Utf8(_) => Broken::Violation(CloseCode::Invalid, "invalid UTF-8".into()),
        Error::Protocol(
            tungstenite::error::ProtocolError::ResetWithoutClosingHandshake
            | tungstenite::error::ProtocolError::SendAfterClosing
            | tungstenite::error::ProtocolError::ReceivedAfterClosing,
        ) => Broken::Gone,
        Error::Protocol(error) => {
            let mut reason = error.to_string();
            // A close frame has room for 123 bytes.
            reason.truncate(reason.floor_char_boundary(120));
            Broken::Violation(CloseCode::Protocol, reason)
        }
        _ => Broken::Gone,
    }
}
