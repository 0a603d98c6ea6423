//! The codes of error frames.

use std::fmt;

/// The `code` of an error frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// The message was not JSON.
    InvalidJson,
    /// The message had no type, or one that the server does not know.
    UnknownType,
    /// The envelope, the action or the reset parameters did not validate.
    Validation,
    /// The environment raised an exception, or its answer could not be serialised.
    Execution,
    /// The server has no room for another session.
    Capacity,
    /// The environment could not be constructed.
    Factory,
    /// The server gives the session up.
    Session,
}

impl ErrorCode {
    /// Every code.
    pub const ALL: [Self; 7] = [
        Self::InvalidJson,
        Self::UnknownType,
        Self::Validation,
        Self::Execution,
        Self::Capacity,
        Self::Factory,
        Self::Session,
    ];

    /// The code as it stands in a frame.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::InvalidJson => "INVALID_JSON",
            Self::UnknownType => "UNKNOWN_TYPE",
            Self::Validation => "VALIDATION_ERROR",
            Self::Execution => "EXECUTION_ERROR",
            Self::Capacity => "CAPACITY_REACHED",
            Self::Factory => "FACTORY_ERROR",
            Self::Session => "SESSION_ERROR",
        }
    }

    /// The code of that name, if it is one of these.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.name() == name)
    }

    /// Whether the server closes the connection (code 1000) after sending it.
    #[must_use]
    pub const fn closes(self) -> bool {
        matches!(self, Self::Capacity | Self::Factory | Self::Session)
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
