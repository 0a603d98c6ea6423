//! What goes wrong on a wire.

use std::{io, time::Duration};

/// A request was not answered as the protocol says.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum Trouble {
    /// There is nobody.
    #[error("no connection: {0}")]
    Connect(String),
    /// The upgrade to a WebSocket was refused.
    #[error("the upgrade was answered with HTTP {status}")]
    Upgrade {
        /// The status of HTTP.
        status: u16,
    },
    /// No answer in time.
    #[error("no answer within {0:?}")]
    Silent(Duration),
    /// The connection has ended in good order, without an answer.
    #[error("the server closed the session (code {code}) without an answer{reason}")]
    Closed {
        /// The code of the closing frame.
        code: u16,
        /// What the closing frame says.
        reason: String,
    },
    /// The connection has ended without a closing frame.
    #[error("the connection ended without a closing frame ({0})")]
    Lost(String),
    /// What came is no WebSocket frame that may be sent.
    #[error("what came breaks the WebSocket protocol: {0}")]
    Frames(String),
    /// A NaN or an infinity as Python prints them, which JSON does not have.
    #[error("the answer has a literal {literal}, which is no JSON: {excerpt}")]
    NotANumber {
        /// Which.
        literal: &'static str,
        /// Around it.
        excerpt: String,
    },
    /// The answer is no JSON at all.
    #[error("the answer is no JSON ({why}): {excerpt}")]
    NotJson {
        /// What the parser says.
        why: String,
        /// Its beginning.
        excerpt: String,
    },
    /// JSON, but no envelope of OpenEnv's.
    #[error("the answer is no envelope of OpenEnv's: {problem}: {excerpt}")]
    Envelope {
        /// What is wrong.
        problem: String,
        /// Its beginning.
        excerpt: String,
    },
    /// Somebody asked to stop.
    #[error("interrupted")]
    Stopped,
}

/// What the error is called with which a read ends once the check is to stop.
pub(super) const STOPPED: &str = "interrupted by the user";

impl Trouble {
    /// What an error of a WebSocket means, where the last wait was `waited`.
    pub(super) fn of(error: &tungstenite::Error, waited: Duration) -> Self {
        use tungstenite::{Error, error::ProtocolError};
        match error {
            Error::Io(error) => Self::of_io(error, waited),
            Error::ConnectionClosed | Error::AlreadyClosed => {
                Self::Lost("it was closed before".into())
            }
            Error::Protocol(
                ProtocolError::ResetWithoutClosingHandshake | ProtocolError::HandshakeIncomplete,
            ) => Self::Lost("end of stream".into()),
            Error::Protocol(
                ProtocolError::SendAfterClosing | ProtocolError::ReceivedAfterClosing,
            ) => Self::Lost("it was closed before".into()),
            Error::Http(response) => Self::Upgrade { status: response.status().as_u16() },
            other => Self::Frames(other.to_string()),
        }
    }

    pub(super) fn of_io(error: &io::Error, waited: Duration) -> Self {
        match error.kind() {
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => Self::Silent(waited),
            _ if error.to_string().contains(STOPPED) => Self::Stopped,
            _ => match error.get_ref().and_then(|inner| inner.downcast_ref()) {
                Some(rustls::Error::InvalidCertificate(why)) => Self::Connect(format!(
                    "the server's certificate is not trusted ({why}): give the authority that has signed it \
                     with --ca FILE"
                )),
                Some(error) => Self::Connect(format!("TLS: {error}")),
                None => Self::Lost(error.to_string()),
            },
        }
    }

    /// Whether the server has sent what nobody may send, whatever was asked.
    pub(crate) const fn is_garbled(&self) -> bool {
        matches!(
            self,
            Self::Frames(_)
                | Self::NotANumber { .. }
                | Self::NotJson { .. }
                | Self::Envelope { .. }
        )
    }
}

/// The beginning of a text, for people.
pub(crate) fn excerpt(text: &str) -> String {
    const CHARACTERS_MAX: usize = 200;
    let mut short: String = text.chars().take(CHARACTERS_MAX).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}
