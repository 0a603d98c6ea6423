//! What a server refuses.

use std::borrow::Cow;

use bytes::Bytes;

use crate::{Failure, FailureKind, SessionFate, openenv::ErrorCode};

/// An error that goes to the client as an error frame. Shown, it reads as the frame's `message`.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ServerError {
    /// The message was not JSON; why.
    #[error("Invalid JSON: {0}")]
    InvalidJson(String),
    /// The message had no type that is known; the type as it came.
    #[error("Unknown message type: {0}")]
    UnknownType(String),
    /// The envelope, the action or the reset parameters did not validate.
    #[error("Invalid message")]
    Validation(Vec<Violation>),
    /// The same, with the list of what is wrong as it comes from an environment: the text of a JSON
    /// array in the same shape (see [`Failure::details`]).
    #[error("Invalid message")]
    ValidationDetails(Bytes),
    /// The environment failed; its own message, which may be empty.
    #[error("{0}")]
    Execution(String),
    /// There is no room for another session.
    #[error(
        "Server at capacity: {active_sessions}/{max_sessions} sessions active. Cannot accept new \
         connections."
    )]
    Capacity {
        /// Sessions that are held.
        active_sessions: u32,
        /// The limit.
        max_sessions: u32,
    },
    /// The environment could not be made.
    #[error("Environment factory '{factory_name}' failed to create instance.")]
    Factory {
        /// The environment's name.
        factory_name: String,
    },
    /// The session is given up; why.
    #[error("{0}")]
    Session(String),
}

impl ServerError {
    /// How a server answers a client whose session failed so: `VALIDATION_ERROR` for an action or
    /// parameters that the environment refused, `EXECUTION_ERROR` for any other failure that the
    /// session survives, and `SESSION_ERROR` for one that it does not.
    #[must_use]
    pub fn from_failure(failure: &Failure) -> Self {
        let message = || failure.message.clone();
        match (failure.kind, failure.session) {
            (FailureKind::Invalid, _) if failure.details.is_empty() => {
                Self::Validation(vec![Violation {
                    kind: "value_error".into(),
                    location: Vec::new(),
                    message: message().into(),
                    input: Bytes::new(),
                }])
            }
            (FailureKind::Invalid, _) => Self::ValidationDetails(failure.details.clone()),
            (_, SessionFate::Kept) => Self::Execution(message()),
            (_, SessionFate::Lost) => Self::Session(message()),
        }
    }

    /// The code of its frame.
    #[must_use]
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::InvalidJson(_) => ErrorCode::InvalidJson,
            Self::UnknownType(_) => ErrorCode::UnknownType,
            Self::Validation(_) | Self::ValidationDetails(_) => ErrorCode::Validation,
            Self::Execution(_) => ErrorCode::Execution,
            Self::Capacity { .. } => ErrorCode::Capacity,
            Self::Factory { .. } => ErrorCode::Factory,
            Self::Session(_) => ErrorCode::Session,
        }
    }

    /// Whether the server closes the connection (code 1000) after sending it.
    #[must_use]
    pub const fn closes(&self) -> bool {
        self.code().closes()
    }
}

/// One entry of a validation error, in the shape of pydantic's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// What is wrong, as one of pydantic's names (`missing`, `extra_forbidden`, `string_type`).
    pub kind: Cow<'static, str>,
    /// The path to the place, from the envelope or, for an action, from the action.
    pub location: Vec<String>,
    /// What is wrong, for people.
    pub message: Cow<'static, str>,
    /// What stood there: the text of one JSON value, or empty for `null`.
    pub input: Bytes,
}

impl Violation {
    /// A required key that is not there; `object` is where it should be.
    #[must_use]
    pub fn missing(key: &str, object: Bytes) -> Self {
        Self::at(key, "missing", "Field required", object)
    }

    /// A key that is not allowed, with its value.
    #[must_use]
    pub fn extra(key: &str, value: Bytes) -> Self {
        Self::at(key, "extra_forbidden", "Extra inputs are not permitted", value)
    }

    /// A value that should be an object.
    #[must_use]
    pub fn not_an_object(key: &str, value: Bytes) -> Self {
        Self::at(key, "dict_type", "Input should be a valid dictionary", value)
    }

    /// Something wrong with the value of one key: pydantic's name for it, and words for people.
    #[must_use]
    pub fn at(
        key: &str,
        kind: impl Into<Cow<'static, str>>,
        message: impl Into<Cow<'static, str>>,
        input: Bytes,
    ) -> Self {
        Self { kind: kind.into(), location: vec![key.into()], message: message.into(), input }
    }
}
