//! What the worker answered, as a frame.

use envmill_protocol::{
    Failure, FailureKind, Outcome, SessionFate,
    openenv::server::{ServerError, encode_error, encode_mcp, encode_observation, encode_state},
};

use crate::hub::Full;

/// A frame, and whether the session is over with it.
pub(super) struct Reply {
    pub(super) frame: Vec<u8>,
    pub(super) closes: bool,
}

impl Reply {
    pub(super) fn error(error: &ServerError) -> Self {
        let mut frame = Vec::new();
        encode_error(&mut frame, error);
        Self { frame, closes: error.closes() }
    }

    pub(super) fn capacity(full: Full) -> Self {
        Self::error(&ServerError::Capacity { active_sessions: full.active, max_sessions: full.max })
    }

    /// The frame for `outcome`; `None` where OpenEnv has none (a session was opened or closed).
    pub(super) fn new(outcome: Outcome, environment: &str, full: Full) -> Option<Self> {
        let mut frame = Vec::new();
        match outcome {
            Outcome::Reset(observed) | Outcome::Stepped(observed) => {
                encode_observation(&mut frame, &observed);
            }
            Outcome::State(state) => encode_state(&mut frame, &state),
            Outcome::ToolResult(response) => encode_mcp(&mut frame, &response),
            Outcome::Failed(failure) => return Some(Self::failure(failure, environment, full)),
            Outcome::Opened | Outcome::Closed => return None,
        }
        Some(Self { frame, closes: false })
    }

    fn failure(failure: Failure, environment: &str, full: Full) -> Self {
        let Failure { kind, session, message, details, .. } = failure;
        let error = match (kind, session) {
            (FailureKind::Invalid, SessionFate::Kept) if !details.is_empty() => {
                let mut frame = Vec::with_capacity(96 + details.len());
                frame.extend_from_slice(br#"{"type":"error","data":{"message":"Invalid message","#);
                frame.extend_from_slice(br#""code":"VALIDATION_ERROR","errors":"#);
                frame.extend_from_slice(&details);
                frame.extend_from_slice(b"}}");
                return Self { frame, closes: false };
            }
            (_, SessionFate::Kept) => ServerError::Execution(message),
            (FailureKind::Capacity, SessionFate::Lost) => return Self::capacity(full),
            (FailureKind::Factory, SessionFate::Lost) => {
                ServerError::Factory { factory_name: environment.into() }
            }
            (_, SessionFate::Lost) => ServerError::Session(message),
        };
        Self::error(&error)
    }
}
