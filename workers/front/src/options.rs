//! What can be set.

use std::time::Duration;

use crate::Description;

/// How many calls over HTTP may wait for one session while it is busy with another; a further one is
/// answered by a JSON-RPC error. OpenEnv runs them side by side, which a session of a worker does not.
pub const CALLS_MAX: usize = 64;

/// How to serve.
#[derive(Clone, Debug)]
pub struct Options {
    /// What is served.
    pub description: Description,
    /// Which routes there are.
    pub mode: Mode,
    /// How many sessions there may be at once: those of WebSockets and those made by
    /// `openenv/session/create` together. Further ones are answered by `CAPACITY_REACHED`, or by its
    /// like in JSON-RPC. Each WebSocket costs a descriptor and about 4 KiB while idle.
    pub max_sessions: u32,
    /// How many environments there may be at once that are made for one HTTP request and thrown away
    /// after it: for `/reset`, `/step` and `/state`, for tool calls without a session, for tasks.
    /// Further requests wait. They do not count against `max_sessions`.
    pub max_stateless: u32,
    /// How long a session may be idle: with no request under way, counted from the last one's end.
    /// Then its environment is closed and its slot is free. A WebSocket is told by `SESSION_ERROR`
    /// and closed; while one is attached to a session of another's making, that session is never
    /// idle. `None`, as in OpenEnv, for no limit.
    pub session_timeout: Option<Duration>,
    /// The largest message taken from a client, in bytes; a larger one closes the session with 1009,
    /// and over HTTP is answered by 413.
    pub message_bytes_max: usize,
    /// How often a client is pinged; `None` for never.
    pub ping_interval: Option<Duration>,
    /// How long a pong may take before the session is closed with 1011.
    pub ping_timeout: Duration,
    /// Which thread the worker runs on.
    pub placement: Placement,
    /// How long sessions get to say goodbye when the front shuts down.
    pub drain: Duration,
}

impl Options {
    /// The defaults, which are those of OpenEnv's own servers where it has any: simulation mode, no
    /// limit to idleness, pings every 20 s, 20 s for a pong, messages of 16 MiB; and room for 65,536
    /// sessions.
    #[must_use]
    pub const fn new(description: Description) -> Self {
        Self {
            description,
            mode: Mode::Simulation,
            max_sessions: 65_536,
            max_stateless: 64,
            session_timeout: None,
            message_bytes_max: 16 << 20,
            ping_interval: Some(Duration::from_secs(20)),
            ping_timeout: Duration::from_secs(20),
            placement: Placement::SameThread,
            drain: Duration::from_secs(5),
        }
    }
}

/// Which routes there are, as `OPENENV_MODE` says it to OpenEnv's own servers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// All of them.
    #[default]
    Simulation,
    /// All but those by which a stranger could turn a production environment's clock: `/reset`,
    /// `/step` and `/state` over HTTP. (`/ws` stays, in OpenEnv too.)
    Production,
}

/// Which thread the worker runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// The front's own: nothing crosses threads. For workers in this process whose `submit` never
    /// takes long. Answers that come later than at once are looked for every millisecond.
    SameThread,
    /// One of its own, which waits in the worker's `completions`. For workers that wait for others.
    OwnThread,
}
