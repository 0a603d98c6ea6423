//! ZMTP 3, as far as an inference engine on the same machine speaks it: the NULL mechanism, messages of
//! several frames, and the two commands that a peer may send at any time.
//!
//! A socket of `libzmq` has a thread of its own and hands every message over a queue. Here the bytes are
//! read where they are used: one read gets what has come, and messages are decoded in place.

mod greeting;
mod messages;
mod write;

pub(super) use greeting::{Role, greet};
pub(super) use messages::{Item, Message, Messages};
pub(super) use write::{frame, long_head, pong};

/// What is wrong with a peer.
#[derive(Debug, thiserror::Error)]
pub(super) enum ZmtpError {
    #[error("the connection broke: {0}")]
    Io(#[from] std::io::Error),
    #[error("the peer hung up in the middle of a message")]
    HalfMessage,
    #[error("the peer does not speak ZMTP 3: {0}")]
    Greeting(&'static str),
    #[error("the peer is a {found} socket; a {wanted} socket is expected here")]
    Role { found: String, wanted: &'static str },
    #[error("the peer refuses the connection: {0}")]
    Refused(String),
    #[error("a frame's flags are {0:#04x}, which mean nothing")]
    Flags(u8),
    #[error("a message of {size} bytes where at most {limit} are taken")]
    TooLarge { size: u64, limit: usize },
    #[error("a message of more than {0} frames")]
    TooMany(usize),
    #[error("a command in the middle of a message, or one that is cut short")]
    Command,
    #[error("the peer took too long to introduce itself")]
    Slow,
}
