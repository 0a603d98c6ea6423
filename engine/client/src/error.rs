//! What can go wrong.

use std::error::Error as _;

use tonic::{Code, Status};

/// Why something was not done.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The address, the token or a certificate cannot be used.
    #[error("{0}")]
    Options(String),
    /// The service cannot be reached, or was not for longer than one wants to wait.
    #[error("the service is not there: {0}")]
    Unreachable(String),
    /// The service refuses.
    #[error("{message} ({code:?})")]
    Refused {
        /// Why, as gRPC has it.
        code: Code,
        /// Why and what to do, for people.
        message: String,
    },
    /// The service says something that makes no sense.
    #[error("the service says something that cannot be understood: {0}")]
    Nonsense(String),
    /// Another stream has taken this one's place, or it was closed.
    #[error("the stream is over: {0}")]
    Over(String),
}

impl Error {
    pub(crate) fn of(status: &Status) -> Self {
        if is_passing(status) {
            return Self::Unreachable(reason(status));
        }
        Self::Refused { code: status.code(), message: status.message().to_owned() }
    }
}

/// What a status says, and why: the transport's own word for a connection that cannot be made is that
/// it is an error.
pub(crate) fn reason(status: &Status) -> String {
    let mut reason = status.message().to_owned();
    let mut source = status.source();
    while let Some(error) = source {
        let cause = error.to_string();
        if !reason.contains(&cause) {
            reason = if reason.is_empty() { cause } else { format!("{reason}: {cause}") };
        }
        source = error.source();
    }
    reason
}

/// Whether a status says that the connection broke, or that the engine stops, so that another try may
/// do.
pub(crate) fn is_passing(status: &Status) -> bool {
    match status.code() {
        Code::Unavailable => true,
        // What the transport has to say of a broken connection has a source; what the service says has none.
        Code::Unknown | Code::Internal | Code::Cancelled => status.source().is_some(),
        _ => false,
    }
}
