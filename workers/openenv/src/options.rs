//! What an [`OpenEnvWorker`](crate::OpenEnvWorker) is told at its start.

use std::{fmt, io, net::IpAddr, path::PathBuf, time::Duration};

use envmill_protocol::{ServerId, openenv::FieldPath};

use crate::{
    AddressError,
    address::Address,
    tls::{self, Trust},
};

/// The most bytes that one server's extra headers may have together.
const HEADER_BYTES_MAX: usize = 16 * 1024;

/// Headers that make up the upgrade itself.
const OWN_HEADERS: [&str; 8] = [
    "host",
    "connection",
    "upgrade",
    "sec-websocket-version",
    "sec-websocket-key",
    "sec-websocket-extensions",
    "sec-websocket-protocol",
    "content-length",
];

/// How a server's sessions are spoken with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transport {
    /// The session socket, `/ws`: resets, steps, tool calls.
    #[default]
    Ws,
    /// `POST /mcp`: tools only. A reset makes a new session on the server; a step is a `call_tool` or
    /// `list_tools` action and has no reward. Servers of several processes keep a table of sessions
    /// in each, so that a session is spoken with over one connection, which leads to one process.
    McpHttp,
    /// `/harness`, of servers in production mode: the server runs an agent, and a step is a message
    /// to it and the whole turn that follows. A session is one episode.
    Harness,
}

/// One environment server.
#[derive(Clone, PartialEq, Eq)]
pub struct Server {
    /// Its URL: `http`, `https`, `ws` or `wss`, with or without the path of its session endpoint
    /// (`http://h:8000` and `ws://h:8000/ws` are the same server).
    pub url: String,
    /// Headers to send with the upgrade and with HTTP requests, such as `Authorization`. Their
    /// values appear in no message and no log.
    pub headers: Vec<(String, String)>,
    /// How its sessions are spoken with.
    pub transport: Transport,
    /// Sessions that exist already (made by `openenv/session/create`) and are attached to, instead of
    /// making new ones. Each is used for one opening and never again, however that ends; when all are
    /// used, opening fails. Empty for new sessions. Only for [`Transport::Ws`].
    pub attach: Vec<String>,
    /// After how long this server gives idle sessions up, where it does (`session_timeout` of its
    /// `ConcurrencyConfig`, which it tells nobody). It closes their environments and leaves their
    /// sockets open, so that steps seem to work; with this, such a session counts as
    /// [`Expired`](envmill_protocol::FailureKind::Expired). Unknown by default.
    pub session_timeout: Option<Duration>,
}

impl Server {
    /// A server without extra headers.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            headers: Vec::new(),
            transport: Transport::Ws,
            attach: Vec::new(),
            session_timeout: None,
        }
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.headers.iter().map(|(name, _)| name).collect();
        f.debug_struct("Server")
            .field("url", &self.url)
            .field("headers", &names)
            .field("transport", &self.transport)
            .field("attach", &self.attach.len())
            .field("session_timeout", &self.session_timeout)
            .finish()
    }
}

/// What a worker is told at its start. Start from [`Options::new`].
#[derive(Clone, Debug)]
pub struct Options {
    /// The servers; a [`ServerId`] is an index into this list.
    pub servers: Vec<Server>,
    /// A file of certificates (PEM) that are trusted besides the web's own authorities.
    pub ca_file: Option<PathBuf>,
    /// The largest message that is taken from a server, in bytes; 64 MiB by default. A session that
    /// sends a larger one is lost. Checked at the header, before anything is allocated.
    pub message_bytes_max: usize,
    /// The buffer into which this worker reads, in bytes; 64 KiB by default. There is one for the
    /// whole worker, so it may be generous: a message that fits costs one system call.
    pub read_buffer_bytes: usize,
    /// How often a silent session is pinged; never by default, since servers ping by themselves and
    /// some tunnels swallow pings. With it, an idle session that has sent nothing for two such
    /// intervals, not even a pong, counts as lost. At least one second.
    pub client_ping: Option<Duration>,
    /// Where an observation says that its episode was cut short rather than ended; `None` for
    /// environments that do not say.
    pub truncated_from: Option<FieldPath>,
    /// The local addresses to connect from, in turn; the system's choice if empty. Each gives about
    /// 28,000 more connections. To servers on the loopback network (127.0.0.0/8) further addresses
    /// of that network are used without being given.
    pub source_addresses: Vec<IpAddr>,
    /// The longest that answers are left to gather before they are looked for, while many are
    /// outstanding; 5 ms by default. It is never more than a twenty-fourth of the mean time of an
    /// answer, and nothing while fewer than two would come. Zero looks at once, always.
    pub gather_max: Duration,
}

impl Options {
    /// The defaults.
    #[must_use]
    pub const fn new(servers: Vec<Server>) -> Self {
        Self {
            servers,
            ca_file: None,
            message_bytes_max: 64 * 1024 * 1024,
            read_buffer_bytes: 64 * 1024,
            client_ping: None,
            truncated_from: None,
            source_addresses: Vec::new(),
            gather_max: Duration::from_millis(5),
        }
    }

    pub(crate) fn check(&self) -> Result<(), OptionsError> {
        let number = |option, given: usize, least, most| {
            if (least..=most).contains(&given) {
                Ok(())
            } else {
                Err(OptionsError::Number { option, given, least, most })
            }
        };
        // The upper bounds keep every length within 32 bits.
        number("message_bytes_max", self.message_bytes_max, 1024, 1 << 31)?;
        number("read_buffer_bytes", self.read_buffer_bytes, 4096, 1 << 24)?;
        match self.client_ping {
            Some(ping) if ping < Duration::from_secs(1) => Err(OptionsError::Ping { given: ping }),
            _ => Ok(()),
        }
    }
}

/// A server, checked.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) address: Address,
    pub(crate) headers: Vec<(String, String)>,
    /// The name to verify, for `https` and `wss`.
    pub(crate) tls: Option<Trust>,
    pub(crate) transport: Transport,
    pub(crate) session_timeout: Option<Duration>,
}

impl Target {
    pub(crate) fn new(server: &Server, ca: &tls::Authorities) -> Result<Self, OptionsError> {
        let address = Address::parse(&server.url)?;
        for (name, value) in &server.headers {
            let refuse = |problem| OptionsError::Header { name: name.clone(), problem };
            let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
            if name.is_empty() || !name.chars().all(token) {
                return Err(refuse("its name has characters that no header's name has"));
            }
            if OWN_HEADERS.iter().any(|own| own.eq_ignore_ascii_case(name)) {
                return Err(refuse("it belongs to the connection itself and is set there"));
            }
            if value.chars().any(|c| c.is_control() && c != '\t') {
                return Err(refuse("its value has a line break or another control character"));
            }
        }
        let bytes: usize = server.headers.iter().map(|(n, v)| n.len() + v.len()).sum();
        if bytes > HEADER_BYTES_MAX {
            return Err(OptionsError::Header {
                name: format!("all {} of them", server.headers.len()),
                problem: "together they are longer than 16 KiB",
            });
        }
        if !server.attach.is_empty() && server.transport != Transport::Ws {
            return Err(OptionsError::Attach);
        }
        let tls = address.is_secure().then(|| ca.trust(address.host())).transpose()?;
        Ok(Self {
            address,
            headers: server.headers.clone(),
            tls,
            transport: server.transport,
            session_timeout: server.session_timeout,
        })
    }
}

/// Options that cannot be used; each message says what to change.
#[derive(Debug, thiserror::Error)]
pub enum OptionsError {
    /// A URL.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// A header.
    #[error("the header {name}: {problem}")]
    Header {
        /// Its name.
        name: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A number out of its range.
    #[error("{option} is {given}; it must be from {least} to {most}")]
    Number {
        /// The option's name.
        option: &'static str,
        /// What was given.
        given: usize,
        /// The least it may be.
        least: usize,
        /// The most it may be.
        most: usize,
    },
    /// A ping interval that is too short.
    #[error("client_ping is {given:?}; it must be at least 1s, or none for no pings")]
    Ping {
        /// What was given.
        given: Duration,
    },
    /// The file of certificates.
    #[error("the file of authorities {path}: {problem}; it must hold certificates in PEM form")]
    Authorities {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A host that cannot have a certificate.
    #[error("{host} cannot be verified: no certificate can carry this name")]
    Name {
        /// The host.
        host: String,
    },
    /// Sessions to attach to, where there are none to attach to.
    #[error("only the transport ws attaches to sessions that exist; leave one of the two out")]
    Attach,
    /// There is no such server.
    #[error("there is no server {id}: {servers} are configured")]
    NoServer {
        /// The id asked for.
        id: ServerId,
        /// How many there are.
        servers: usize,
    },
    /// The system refused what a worker needs (an epoll descriptor, an event descriptor).
    #[error("the system refused a worker's event queue: {0}; see ulimit -n")]
    System(#[from] io::Error),
}
