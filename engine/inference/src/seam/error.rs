//! Why a generation failed.

use std::fmt;

/// Why there is no answer, or no more of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind}: {message}")]
pub struct Error {
    /// What to do about it.
    pub kind: ErrorKind,
    /// What happened, and what the reader can do.
    pub message: String,
}

/// What kind of failure it was: everything that is decided about failures is decided on this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The request is wrong (too long a prompt, an unknown token): nobody will answer it.
    Refused,
    /// The engine has no room now, or is being started: later, or another.
    Busy,
    /// The connection or the engine broke: another, or the same once it is back.
    Lost,
    /// What the engine sent makes no sense: another.
    Nonsense,
    /// Nothing came for too long.
    Silent,
    /// This channel cannot do that.
    Unsupported,
}

impl ErrorKind {
    /// Another replica, or the same one later, may well answer the same request.
    #[must_use]
    pub const fn retry(self) -> bool {
        match self {
            Self::Busy | Self::Lost | Self::Nonsense | Self::Silent => true,
            Self::Refused | Self::Unsupported => false,
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Refused => "the inference engine refuses the request",
            Self::Busy => "the inference engine has no room",
            Self::Lost => "the inference engine was lost",
            Self::Nonsense => "the inference engine sent what makes no sense",
            Self::Silent => "the inference engine was silent for too long",
            Self::Unsupported => "this channel to an inference engine cannot do that",
        })
    }
}

impl Error {
    /// A failure of this kind.
    #[must_use]
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// What an update of weights that failed means: nobody knows what the engine samples from now. Where the
    /// channel cannot update at all, nothing has changed.
    pub(crate) fn of_update(self) -> Self {
        match self.kind {
            ErrorKind::Unsupported => self,
            _ => Self::new(
                ErrorKind::Lost,
                format!(
                    "its weights are unknown after a failed update, restart it ({})",
                    self.message
                ),
            ),
        }
    }
}
