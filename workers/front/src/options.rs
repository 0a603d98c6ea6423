//! What can be set.

use std::time::Duration;

use bytes::Bytes;

/// How to serve.
#[derive(Clone, Debug)]
pub struct Options {
    /// What is served.
    pub description: Description,
    /// How many WebSocket sessions there may be at once; further ones are answered by
    /// `CAPACITY_REACHED`. Each costs a descriptor and about 4 KiB while idle.
    pub max_sessions: u32,
    /// How many stateless HTTP requests may have an environment at once; further ones wait. They do
    /// not count against `max_sessions`.
    pub max_stateless: u32,
    /// The largest message taken from a client, in bytes; a larger one closes the session with 1009.
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
    /// The defaults, which are those of OpenEnv's own servers where it has any: pings every 20 s, 20 s
    /// for a pong, messages of 16 MiB; and room for 65,536 sessions.
    #[must_use]
    pub const fn new(description: Description) -> Self {
        Self {
            description,
            max_sessions: 65_536,
            max_stateless: 64,
            message_bytes_max: 16 << 20,
            ping_interval: Some(Duration::from_secs(20)),
            ping_timeout: Duration::from_secs(20),
            placement: Placement::SameThread,
            drain: Duration::from_secs(5),
        }
    }
}

/// What is served, as `/metadata` and `/schema` tell it.
#[derive(Clone, Debug, Default)]
pub struct Description {
    /// The environment's name.
    pub name: String,
    /// One sentence about it.
    pub description: String,
    /// Its version.
    pub version: String,
    /// The JSON Schema of an action: the text of one JSON object.
    pub action_schema: Bytes,
    /// The JSON Schema of an observation: the text of one JSON object.
    pub observation_schema: Bytes,
    /// The JSON Schema of the state: the text of one JSON object.
    pub state_schema: Bytes,
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
