//! What can go wrong with a session, classified once.
//!
//! A worker reports a [`Failure`]; the scheduler matches on [`Kind`] and [`Kind::retry`], never on
//! the message.

use std::{fmt, time::Duration};

use bytes::Bytes;

/// The longest message a failure carries, in bytes; the rest of a server's text is cut.
pub const MESSAGE_BYTES_MAX: usize = 1024;

/// A command that failed, or a session that was lost.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{kind}: {message}")]
pub struct Failure {
    /// What kind of failure it is.
    pub kind: Kind,
    /// Whether the session can still be used.
    pub session: SessionFate,
    /// What happened, for people: at most [`MESSAGE_BYTES_MAX`] bytes.
    pub message: String,
    /// How long the server asked to be left alone (`Retry-After`), where it said so.
    pub retry_after: Option<Duration>,
    /// What a client of a server that Envmill itself is should be told beside the message, or empty
    /// where unknown; records do not keep it. For [`Kind::Invalid`]: what is wrong with which field,
    /// the text of a JSON array of errors in pydantic's shape (`type`, `loc`, `msg`, `input`). For
    /// [`Kind::Capacity`]: the text of a JSON object with `active_sessions` and `max_sessions`. For
    /// [`Kind::Factory`]: one with `factory_name`.
    pub details: Bytes,
}

impl Failure {
    /// A failure after which the session is gone. The message is cut to [`MESSAGE_BYTES_MAX`].
    #[must_use]
    pub fn lost(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            session: SessionFate::Lost,
            message: cut(message.into()),
            retry_after: None,
            details: Bytes::new(),
        }
    }

    /// A failure after which the session is still there. The message is cut to
    /// [`MESSAGE_BYTES_MAX`].
    #[must_use]
    pub fn kept(kind: Kind, message: impl Into<String>) -> Self {
        Self { session: SessionFate::Kept, ..Self::lost(kind, message) }
    }
}

fn cut(mut message: String) -> String {
    if message.len() > MESSAGE_BYTES_MAX {
        message.truncate(message.floor_char_boundary(MESSAGE_BYTES_MAX));
        message.shrink_to_fit();
    }
    message
}

/// Whether a session outlives a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SessionFate {
    /// It can take the next command, though the environment's state may be undefined.
    Kept,
    /// It is gone; its slot must be opened anew.
    Lost,
}

/// The part of a session's life in which something happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Making the connection, up to the WebSocket upgrade.
    Connect,
    /// The first reset of a session, which includes the construction of its environment.
    FirstReset,
    /// A later reset.
    Reset,
    /// A step.
    Step,
    /// Waiting for the policy, or for an external driver.
    Policy,
    /// Waiting for the scorer, after the last step.
    Scoring,
    /// The episode as a whole.
    Episode,
    /// The job as a whole.
    Job,
}

impl Phase {
    /// Every phase, in the order of a session's life.
    pub const ALL: [Self; 8] = [
        Self::Connect,
        Self::FirstReset,
        Self::Reset,
        Self::Step,
        Self::Policy,
        Self::Scoring,
        Self::Episode,
        Self::Job,
    ];

    /// The phase that [`name`](Self::name) calls so, if there is one.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|phase| phase.name() == name)
    }

    /// The name as it stands in causes and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::FirstReset => "first_reset",
            Self::Reset => "reset",
            Self::Step => "step",
            Self::Policy => "policy",
            Self::Scoring => "scoring",
            Self::Episode => "episode",
            Self::Job => "job",
        }
    }
}

/// What kind of failure it is: who is at fault and whether another try can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The server's name did not resolve.
    NameResolution,
    /// Nothing took the connection (refused, unreachable, cut before the upgrade).
    Unreachable,
    /// TLS failed: an unknown authority, a wrong name, a protocol mismatch.
    Tls,
    /// The WebSocket upgrade, or a request over HTTP, was answered by another status.
    UpgradeRefused {
        /// The status.
        status: u16,
    },
    /// What answered does not speak OpenEnv.
    NotOpenEnv,
    /// The server has no room for another session (OpenEnv `CAPACITY_REACHED`).
    Capacity,
    /// The environment could not be constructed (OpenEnv `FACTORY_ERROR`).
    Factory,
    /// The server refused the form of the message (`INVALID_JSON`, `UNKNOWN_TYPE`).
    Refused,
    /// The environment refused the action or the reset parameters (`VALIDATION_ERROR`).
    Invalid,
    /// The environment raised an exception, or its answer could not be serialised
    /// (`EXECUTION_ERROR`).
    Environment,
    /// The server gave the session up (`SESSION_ERROR`), or does not know it any more.
    Session,
    /// The session that was to be attached to is unknown, not ready, or has somebody attached
    /// already. Another session may be there.
    Attach,
    /// The session sat longer than its server keeps idle ones: its environment has been closed, or
    /// may have been, though its socket still answers. Nothing of what it says since can be used.
    Expired,
    /// The connection was closed by the server, with this WebSocket code (1005 where it gave none).
    Closed {
        /// The code.
        code: u16,
    },
    /// The connection broke without a close frame.
    Disconnected,
    /// The server sent what the protocol does not allow.
    Protocol,
    /// A message was larger than the configured limit.
    TooLarge,
    /// No answer within the deadline of this phase. Set by the scheduler, never by a worker.
    Deadline(Phase),
    /// The job was paused for longer than a session is kept waiting: the attempt was given up, and
    /// another follows when the job goes on. Set by the scheduler.
    Paused,
    /// The policy gave no action. Set by the scheduler.
    Policy,
    /// The external driver reported a failure. Set by the scheduler.
    Driver,
    /// No server was reachable for as long as the job allows. Set by the scheduler.
    NoServer,
    /// A bound of the engine itself was reached; the message names it.
    Limit,
    /// The scorer gave no score. Set by the scheduler.
    Scorer,
    /// Servers died while they were at attempts at this task: it is not tried on more of them. Set
    /// by the scheduler.
    Poison,
}

impl Kind {
    /// Whether and how another attempt at the same episode makes sense, with its request sent in
    /// `phase`.
    #[must_use]
    pub const fn retry(self, phase: Phase) -> Retry {
        match self {
            // The server is away, full or slow: another time or another server.
            Self::NameResolution | Self::Unreachable | Self::Factory => {
                Retry::After(Duration::from_millis(250))
            }
            Self::Capacity => Retry::After(Duration::from_millis(100)),
            Self::UpgradeRefused { status } => match status {
                408 | 425 | 429 | 500 | 502 | 503 | 504 => Retry::After(Duration::from_secs(1)),
                _ => Retry::Never,
            },
            // The transport failed under us.
            Self::Closed { .. }
            | Self::Disconnected
            | Self::Protocol
            | Self::Session
            | Self::Attach
            | Self::Expired
            | Self::Paused => Retry::NewSession,
            Self::Deadline(Phase::Connect | Phase::FirstReset | Phase::Reset | Phase::Step) => {
                Retry::NewSession
            }
            // An exception in a reset is often a hiccup of what the environment itself starts; in a
            // step it is the environment's own answer to the action.
            Self::Environment => match phase {
                Phase::FirstReset | Phase::Reset => Retry::NewSession,
                _ => Retry::Never,
            },
            Self::Tls
            | Self::NotOpenEnv
            | Self::Refused
            | Self::Invalid
            | Self::TooLarge
            | Self::Deadline(Phase::Policy | Phase::Scoring | Phase::Episode | Phase::Job)
            | Self::Policy
            | Self::Driver
            | Self::NoServer
            | Self::Limit
            | Self::Scorer
            | Self::Poison => Retry::Never,
        }
    }

    /// Whether it lies with the way to the server or with the server's process, and not with what
    /// was asked of the environment. A request without an answer counts: nothing tells a hanging
    /// environment from a dead connection.
    #[must_use]
    pub const fn is_transport(self) -> bool {
        match self {
            Self::NameResolution
            | Self::Unreachable
            | Self::Tls
            | Self::UpgradeRefused { .. }
            | Self::Session
            | Self::Attach
            | Self::Expired
            | Self::Closed { .. }
            | Self::Disconnected
            | Self::Protocol
            | Self::Deadline(Phase::Connect | Phase::FirstReset | Phase::Reset | Phase::Step) => {
                true
            }
            Self::Deadline(Phase::Policy | Phase::Scoring | Phase::Episode | Phase::Job)
            | Self::NotOpenEnv
            | Self::Capacity
            | Self::Factory
            | Self::Refused
            | Self::Invalid
            | Self::Environment
            | Self::TooLarge
            | Self::Policy
            | Self::Driver
            | Self::NoServer
            | Self::Limit
            | Self::Scorer
            | Self::Paused
            | Self::Poison => false,
        }
    }

    /// Whether a request that failed so has certainly done nothing, so that repeating it does nothing
    /// twice: it never left, or was refused before it reached the environment. What a request that
    /// got no answer has done is not known.
    #[must_use]
    pub const fn is_without_effect(self) -> bool {
        matches!(
            self,
            Self::NameResolution
                | Self::Unreachable
                | Self::Tls
                | Self::UpgradeRefused { .. }
                | Self::NotOpenEnv
                | Self::Capacity
                | Self::Factory
                | Self::Refused
                | Self::Invalid
                | Self::Attach
                | Self::NoServer
                | Self::Limit
        )
    }

    /// The name as it stands in records and summaries: one word, stable, without the details.
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Self::NameResolution => "name_resolution".into(),
            Self::Unreachable => "unreachable".into(),
            Self::Tls => "tls".into(),
            Self::UpgradeRefused { status } => format!("upgrade_refused_{status}"),
            Self::NotOpenEnv => "not_openenv".into(),
            Self::Capacity => "capacity".into(),
            Self::Factory => "factory".into(),
            Self::Refused => "refused".into(),
            Self::Invalid => "invalid".into(),
            Self::Environment => "environment".into(),
            Self::Session => "session".into(),
            Self::Attach => "attach".into(),
            Self::Expired => "expired".into(),
            Self::Closed { code } => format!("closed_{code}"),
            Self::Disconnected => "disconnected".into(),
            Self::Protocol => "protocol".into(),
            Self::TooLarge => "too_large".into(),
            Self::Deadline(phase) => format!("deadline_{}", phase.name()),
            Self::Policy => "policy".into(),
            Self::Driver => "driver".into(),
            Self::NoServer => "no_server".into(),
            Self::Limit => "limit".into(),
            Self::Scorer => "scorer".into(),
            Self::Paused => "paused".into(),
            Self::Poison => "poison".into(),
        }
    }
}

impl Kind {
    /// The kind that [`name`](Self::name) calls so, if there is one.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        // `+7` is a number to Rust; it is no name of ours.
        let number = |prefix| {
            let digits = name.strip_prefix(prefix)?;
            let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
            if plain { digits.parse().ok() } else { None }
        };
        if let Some(status) = number("upgrade_refused_") {
            return Some(Self::UpgradeRefused { status });
        }
        if let Some(code) = number("closed_") {
            return Some(Self::Closed { code });
        }
        if let Some(phase) = name.strip_prefix("deadline_") {
            return Phase::from_name(phase).map(Self::Deadline);
        }
        Some(match name {
            "name_resolution" => Self::NameResolution,
            "unreachable" => Self::Unreachable,
            "tls" => Self::Tls,
            "not_openenv" => Self::NotOpenEnv,
            "capacity" => Self::Capacity,
            "factory" => Self::Factory,
            "refused" => Self::Refused,
            "invalid" => Self::Invalid,
            "environment" => Self::Environment,
            "session" => Self::Session,
            "attach" => Self::Attach,
            "expired" => Self::Expired,
            "disconnected" => Self::Disconnected,
            "protocol" => Self::Protocol,
            "too_large" => Self::TooLarge,
            "policy" => Self::Policy,
            "driver" => Self::Driver,
            "no_server" => Self::NoServer,
            "limit" => Self::Limit,
            "scorer" => Self::Scorer,
            "paused" => Self::Paused,
            "poison" => Self::Poison,
            _ => return None,
        })
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

/// What to do about a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Nothing would change: the episode fails.
    Never,
    /// Again at once, on the same session.
    SameSession,
    /// Again on a new session.
    NewSession,
    /// Again on a new session, after at least this long.
    After(Duration),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_got_no_answer_may_have_done_something() {
        for kind in [
            Kind::Disconnected,
            Kind::Closed { code: 1012 },
            Kind::Expired,
            Kind::Environment,
            Kind::Deadline(Phase::Step),
        ] {
            assert!(!kind.is_without_effect(), "{kind}");
        }
        assert!(Kind::Invalid.is_without_effect() && Kind::Capacity.is_without_effect());
    }

    #[test]
    fn every_kind_is_found_by_its_name() {
        let kinds = [
            Kind::NameResolution,
            Kind::Unreachable,
            Kind::Tls,
            Kind::UpgradeRefused { status: 503 },
            Kind::NotOpenEnv,
            Kind::Capacity,
            Kind::Factory,
            Kind::Refused,
            Kind::Invalid,
            Kind::Environment,
            Kind::Session,
            Kind::Attach,
            Kind::Expired,
            Kind::Closed { code: 1012 },
            Kind::Disconnected,
            Kind::Protocol,
            Kind::TooLarge,
            Kind::Policy,
            Kind::Driver,
            Kind::NoServer,
            Kind::Limit,
            Kind::Scorer,
            Kind::Paused,
            Kind::Poison,
        ];
        for kind in kinds.into_iter().chain(Phase::ALL.map(Kind::Deadline)) {
            assert_eq!(Kind::from_name(&kind.name()), Some(kind));
        }
        for unknown in ["", "Tls", "closed_", "closed_+1", "closed_65536", "deadline_x"] {
            assert_eq!(Kind::from_name(unknown), None, "{unknown}");
        }
    }

    #[test]
    fn long_messages_are_cut_at_a_character() {
        let failure = Failure::lost(Kind::Protocol, "é".repeat(2 * MESSAGE_BYTES_MAX));
        assert!(failure.message.len() <= MESSAGE_BYTES_MAX);
        assert!(failure.message.chars().all(|c| c == 'é'));
    }
}
