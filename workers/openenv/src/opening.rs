//! The way to a session: addresses tried in turn, then TLS, then the WebSocket upgrade.

use std::{
    io::{self, ErrorKind},
    mem,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use envmill_protocol::{Event, Failure, FailureKind, Generation, Slot};
use mio::{Interest, Registry, Token, event::Event as Readiness};

use crate::{
    Transport, connect,
    desk::Desk,
    link::{self, Backlog, Link},
    mcp_http::McpHttp,
    options::Target,
    session::{Session, Turn},
    socket::{Nature, Socket},
    source::Source,
    websocket::{Upgrade, Verdict},
};

/// A session that is being opened. Nothing here ends by itself if the server is silent: the deadline
/// is the scheduler's, which closes the slot.
#[derive(Debug)]
pub(crate) struct Opening {
    pub(crate) slot: Slot,
    pub(crate) generation: Generation,
    /// The server as it was when the command came, whatever it has become since.
    target: Arc<Target>,
    source: Source,
    /// The session to attach to, rather than making one.
    attach: Option<String>,
    /// The session that this connection is for, where it is not a new one.
    resumes: Option<Box<McpHttp>>,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// The name is being looked up.
    Resolving,
    /// A connection has begun.
    Connecting { socket: link::Socket, addresses: Arc<[IpAddr]>, tried: usize },
    /// The connection stands; the upgrade is under way, through TLS where there is any.
    Upgrading { link: Link, backlog: Backlog, upgrade: Upgrade },
}

/// What has become of an opening.
#[derive(Debug)]
pub(crate) enum Progress {
    /// It goes on.
    Waits,
    /// The session stands; what is left of the socket's news is in the turn.
    Stands(Session, Turn),
    /// A session that stood before has a connection again.
    Resumed(Session, Turn),
    /// It failed.
    Failed(Failure),
}

impl Opening {
    pub(crate) fn new(
        slot: Slot,
        generation: Generation,
        target: Arc<Target>,
        source: Source,
        attach: Option<String>,
    ) -> Self {
        let stage = Stage::Resolving;
        Self { slot, generation, target, source, attach, resumes: None, stage }
    }

    /// A new connection for a session that stands, and has a request to make.
    pub(crate) fn again(http: Box<McpHttp>, source: Source) -> Self {
        Self {
            slot: http.slot(),
            generation: http.generation(),
            target: http.target(),
            source,
            attach: None,
            resumes: Some(http),
            stage: Stage::Resolving,
        }
    }

    /// Whether a request waits for this connection.
    pub(crate) const fn is_busy(&self) -> bool {
        self.resumes.is_some()
    }

    pub(crate) fn target(&self) -> &Target {
        &self.target
    }

    /// Begins to connect to the first of `addresses`.
    pub(crate) fn connect(
        &mut self,
        addresses: Arc<[IpAddr]>,
        registry: &Registry,
        token: Token,
    ) -> Result<(), Failure> {
        self.next_address(addresses, 0, registry, token, None)
    }

    /// Tries addresses from the one numbered `tried` on.
    fn next_address(
        &mut self,
        addresses: Arc<[IpAddr]>,
        mut tried: usize,
        registry: &Registry,
        token: Token,
        mut last: Option<io::Error>,
    ) -> Result<(), Failure> {
        while let Some(ip) = addresses.get(tried) {
            tried += 1;
            let source = self.source.towards(*ip);
            if source.is_some_and(|source| source.is_ipv4() != ip.is_ipv4()) {
                last.get_or_insert_with(|| {
                    io::Error::other("it has no address of the source address's family")
                });
                continue;
            }
            let begun = connect::begin(SocketAddr::new(*ip, self.target.address.port()), source)
                .and_then(|mut stream| {
                    let interest = Interest::READABLE | Interest::WRITABLE;
                    registry.register(&mut stream, token, interest)?;
                    Ok(stream)
                });
            match begun {
                Ok(stream) => {
                    let socket = link::Socket::new(stream);
                    self.stage = Stage::Connecting { socket, addresses, tried };
                    return Ok(());
                }
                Err(error) => {
                    let limit = connect::is_limit(&error);
                    last = Some(error);
                    if limit {
                        break;
                    }
                }
            }
        }
        let error = last.unwrap_or_else(|| io::Error::other("it has no address"));
        Err(connect::failure(&error, &self.target.address, tried))
    }

    /// Deals with what the event queue said about the socket.
    pub(crate) fn turn(
        &mut self,
        readiness: &Readiness,
        registry: &Registry,
        token: Token,
        desk: &mut Desk,
        events: &mut Vec<Event>,
    ) -> Progress {
        let result = match mem::replace(&mut self.stage, Stage::Resolving) {
            Stage::Resolving => Ok(None),
            Stage::Connecting { mut socket, addresses, tried } => {
                match connect::established(socket.stream()) {
                    Ok(true) => self.upgrade(socket, desk),
                    Ok(false) => {
                        self.stage = Stage::Connecting { socket, addresses, tried };
                        Ok(None)
                    }
                    Err(error) => {
                        drop(socket);
                        self.next_address(addresses, tried, registry, token, Some(error))
                            .map(|()| None)
                    }
                }
            }
            Stage::Upgrading { mut link, backlog, upgrade } => {
                link.notice(readiness);
                self.progress(link, backlog, upgrade, desk)
            }
        };
        match result {
            Ok(None) => Progress::Waits,
            Ok(Some((link, rest))) => self.begin(link, &rest, desk, events),
            Err(failure) => Progress::Failed(failure),
        }
    }

    /// The connection is what was wanted: the session begins, or goes on.
    fn begin(
        &mut self,
        link: Link,
        rest: &[u8],
        desk: &mut Desk,
        events: &mut Vec<Event>,
    ) -> Progress {
        if let Some(mut http) = self.resumes.take() {
            let turn = http.resume(link, desk, events);
            return Progress::Resumed(Session::McpHttp(http), turn);
        }
        if self.target.transport == Transport::McpHttp {
            let http = McpHttp::new(self.slot, link, self.generation, Arc::clone(&self.target));
            return Progress::Stands(Session::McpHttp(Box::new(http)), Turn::Waits);
        }
        let nature = Nature::new(&self.target, self.attach.is_some());
        let mut session = Socket::new(self.slot, link, self.generation, nature);
        let turn = session.begin(rest, desk, events);
        Progress::Stands(Session::Socket(session), turn)
    }

    /// The connection stands: sends the upgrade's request.
    fn upgrade(
        &mut self,
        socket: link::Socket,
        desk: &mut Desk,
    ) -> Result<Option<(Link, Vec<u8>)>, Failure> {
        let link = match &self.target.tls {
            None => Link::plain(socket),
            Some(trust) => {
                let connection =
                    trust.connect().map_err(|error| tls_failure(&error, &self.target))?;
                Link::encrypted(socket, connection)
            }
        };
        let endpoint = match self.target.transport {
            Transport::McpHttp => return Ok(Some((link, Vec::new()))),
            Transport::Ws => "/ws",
            Transport::Harness => "/harness",
        };
        let path = self.target.address.path(endpoint, self.attach.as_deref());
        let (upgrade, request) =
            Upgrade::request(&self.target.address, &path, &self.target.headers);
        let mut link = link;
        let mut backlog = Backlog::default();
        backlog.send(&request, &mut link).map_err(|error| self.cut(&error, &upgrade))?;
        self.progress(link, backlog, upgrade, desk)
    }

    fn progress(
        &mut self,
        mut link: Link,
        mut backlog: Backlog,
        mut upgrade: Upgrade,
        desk: &mut Desk,
    ) -> Result<Option<(Link, Vec<u8>)>, Failure> {
        let sent = backlog.flush(&mut link);
        loop {
            match link.read(&mut desk.incoming) {
                Ok(0) => {
                    let error = sent.err().unwrap_or_else(|| ErrorKind::UnexpectedEof.into());
                    return Err(self.cut(&error, &upgrade));
                }
                Ok(read) => {
                    let answer = upgrade.take(&desk.incoming[..read], &self.target.address)?;
                    if let Verdict::Upgraded { rest } = answer {
                        return Ok(Some((link, rest)));
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    sent.map_err(|error| self.cut(&error, &upgrade))?;
                    self.stage = Stage::Upgrading { link, backlog, upgrade };
                    return Ok(None);
                }
                Err(error) => return Err(self.cut(&error, &upgrade)),
            }
        }
    }

    /// What a connection means that broke before it was a WebSocket.
    fn cut(&self, error: &io::Error, upgrade: &Upgrade) -> Failure {
        if let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            return tls_failure(tls, &self.target);
        }
        let when = if upgrade.is_unanswered() { "before" } else { "in the middle of" };
        let what = match error.kind() {
            ErrorKind::UnexpectedEof => "the server ended it".to_owned(),
            _ => error.to_string(),
        };
        let hint = if self.target.address.is_secure() || !upgrade.is_unanswered() {
            ""
        } else {
            "; if the server speaks TLS, its URL begins with https"
        };
        Failure::lost(
            FailureKind::Unreachable,
            format!(
                "the connection to {} broke {when} the answer to the upgrade: {what}{hint}",
                self.target.address
            ),
        )
    }
}

fn tls_failure(error: &rustls::Error, target: &Target) -> Failure {
    use rustls::{CertificateError, Error, InvalidMessage};
    let hint = match error {
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            ": its certificate is from an authority that is not known here; if it is your own, name \
             its file as trusted"
        }
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            ": it answers, but not in TLS; if the server is not encrypted, its URL begins with http"
        }
        _ => "",
    };
    Failure::lost(FailureKind::Tls, format!("no TLS with {}: {error}{hint}", target.address))
}
