//! One WebSocket.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use tungstenite::{
    ClientRequestBuilder, HandshakeError, Message, WebSocket, client::client_with_config,
    http::Uri, protocol::WebSocketConfig,
};

use super::{link::Link, peer::Peer, reply::Reply, trouble::Trouble};

/// The largest message that is read, in bytes.
const MESSAGE_BYTES_MAX: usize = 256 << 20;
/// How long sessions that have said goodbye may take to end.
const CLOSE_WAIT: Duration = Duration::from_secs(2);

/// One thing that a server has sent.
#[derive(Clone, Debug)]
pub(crate) enum Told {
    Text(String),
    Binary(usize),
    Pong(Vec<u8>),
    Close(u16, String),
}

/// How a connection is left without a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// TCP ends in good order, and the WebSocket does not.
    Fin,
    /// TCP is reset.
    Reset,
}

/// A connection to an endpoint of WebSockets.
pub(crate) struct Socket {
    web: WebSocket<Link>,
    timeout: Duration,
}

impl Socket {
    /// Connects to `/ws`. What comes of it the first answer tells: a server that is full upgrades, too.
    pub(crate) fn open(peer: &Peer) -> Result<Self, Trouble> {
        Self::over(peer, peer.tcp()?, "/ws")
    }

    /// The same over a connection that there is, to a path.
    pub(crate) fn over(peer: &Peer, tcp: TcpStream, path: &str) -> Result<Self, Trouble> {
        let timeout = peer.timeout();
        let mut link = peer.link(tcp)?;
        link.within(timeout);
        let uri: Uri = peer
            .url("ws", path)
            .parse()
            .map_err(|_| Trouble::Connect("the URL of the WebSocket cannot be used".into()))?;
        let mut request = ClientRequestBuilder::new(uri);
        for (name, value) in &peer.headers {
            request = request.with_header(name, value);
        }
        let config = WebSocketConfig::default()
            .read_buffer_size(16 << 10)
            .max_message_size(Some(MESSAGE_BYTES_MAX))
            .max_frame_size(Some(MESSAGE_BYTES_MAX));
        match client_with_config(request, link, Some(config)) {
            Ok((web, _)) => Ok(Self { web, timeout }),
            Err(HandshakeError::Failure(error)) => Err(Trouble::of(&error, timeout)),
            Err(HandshakeError::Interrupted(_)) => Err(Trouble::Silent(timeout)),
        }
    }

    /// Sends one message of text.
    pub(crate) fn send(&mut self, text: &str) -> Result<(), Trouble> {
        self.send_message(Message::text(text))
    }

    /// Sends one message of whatever kind.
    pub(crate) fn send_message(&mut self, message: Message) -> Result<(), Trouble> {
        self.web.get_mut().within(self.timeout);
        self.web.send(message).map_err(|error| Trouble::of(&error, self.timeout))
    }

    /// Sends bytes as they are.
    pub(crate) fn send_raw(&mut self, bytes: &[u8]) -> Result<(), Trouble> {
        let link = self.web.get_mut();
        link.within(self.timeout);
        link.write_all(bytes)
            .and_then(|()| link.flush())
            .map_err(|error| Trouble::of_io(&error, self.timeout))
    }

    /// Reads bytes as they are. What is read so is lost to [`receive`](Self::receive).
    pub(crate) fn read_raw(&mut self, buffer: &mut [u8], wait: Duration) -> Result<usize, Trouble> {
        let link = self.web.get_mut();
        link.within(wait);
        link.read(buffer).map_err(|error| Trouble::of_io(&error, wait))
    }

    /// The next thing that the server sends. Its pings are answered meanwhile.
    pub(crate) fn receive(&mut self, wait: Duration) -> Result<Told, Trouble> {
        let deadline = Instant::now() + wait;
        loop {
            self.web.get_mut().within(deadline.saturating_duration_since(Instant::now()));
            match self.web.read().map_err(|error| Trouble::of(&error, wait))? {
                Message::Text(text) => return Ok(Told::Text(text.as_str().to_owned())),
                Message::Binary(bytes) => return Ok(Told::Binary(bytes.len())),
                Message::Pong(bytes) => return Ok(Told::Pong(bytes.to_vec())),
                Message::Ping(_) | Message::Frame(_) => {}
                Message::Close(close) => {
                    return Ok(match close {
                        Some(close) => Told::Close(close.code.into(), close.reason.to_string()),
                        None => Told::Close(1005, String::new()),
                    });
                }
            }
        }
    }

    /// The next answer.
    pub(crate) fn reply(&mut self) -> Result<Reply, Trouble> {
        self.reply_within(self.timeout)
    }

    /// The next answer, which may take so long.
    pub(crate) fn reply_within(&mut self, wait: Duration) -> Result<Reply, Trouble> {
        loop {
            match self.receive(wait)? {
                Told::Text(text) => return Reply::parse(&text),
                Told::Binary(bytes) => {
                    return Err(Trouble::Frames(format!("a binary message of {bytes} bytes")));
                }
                Told::Pong(_) => {}
                Told::Close(code, reason) => {
                    let reason = if reason.is_empty() { reason } else { format!(": {reason}") };
                    return Err(Trouble::Closed { code, reason });
                }
            }
        }
    }

    /// Sends a request and waits for its answer. Where it cannot be sent, what the server has said
    /// before is the answer.
    pub(crate) fn ask(&mut self, request: &str) -> Result<Reply, Trouble> {
        match self.send(request) {
            Ok(()) => self.reply(),
            Err(Trouble::Stopped) => Err(Trouble::Stopped),
            Err(trouble) => match self.reply_within(Duration::from_secs(1)) {
                Ok(reply) => Ok(reply),
                Err(_) => Err(trouble),
            },
        }
    }

    /// The socket below.
    pub(crate) fn tcp(&self) -> &TcpStream {
        self.web.get_ref().tcp()
    }

    /// Leaves without a word.
    pub(crate) fn cut(self, how: Cut) {
        if how == Cut::Reset {
            // A system that does not take the option closes the connection, which is a cut as well.
            let _ = socket2::SockRef::from(self.tcp()).set_linger(Some(Duration::ZERO));
        }
        drop(self);
    }

    /// Says goodbye as OpenEnv's clients do, and waits a moment until the server has closed.
    pub(crate) fn close(self) {
        Self::close_all(vec![self]);
    }

    /// The same for many, which all say goodbye before any waits.
    pub(crate) fn close_all(mut sockets: Vec<Self>) {
        sockets.retain_mut(|socket| socket.send(r#"{"type":"close"}"#).is_ok());
        let until = Instant::now() + CLOSE_WAIT;
        for mut socket in sockets {
            let left = || until.saturating_duration_since(Instant::now());
            while let Ok(Told::Text(_) | Told::Binary(_) | Told::Pong(_)) = socket.receive(left()) {
            }
        }
    }
}
