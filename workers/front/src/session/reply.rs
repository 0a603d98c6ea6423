//! What the worker answered, as a frame.

use envmill_protocol::{
    Failure, FailureKind, Observed, Outcome, SessionFate,
    openenv::server::{
        RpcId, ServerError, encode_error, encode_mcp, encode_observation, encode_state,
    },
};

use super::Dialect;
use crate::{hub::Full, rpc};

/// A frame, and whether the session is over with it.
pub(super) struct Reply {
    pub(super) frame: Vec<u8>,
    pub(super) closes: bool,
}

impl Reply {
    /// An error of the session or of its message.
    pub(super) fn error(dialect: Dialect, error: &ServerError) -> Self {
        let frame = match dialect {
            Dialect::Ws => {
                let mut frame = Vec::new();
                encode_error(&mut frame, error);
                frame
            }
            Dialect::Mcp => rpc::server_error(&RpcId::NULL, error),
        };
        Self { frame, closes: error.closes() }
    }

    /// A JSON-RPC response.
    pub(super) fn rpc(dialect: Dialect, response: &[u8]) -> Self {
        let frame = match dialect {
            Dialect::Ws => {
                let mut frame = Vec::new();
                encode_mcp(&mut frame, response);
                frame
            }
            Dialect::Mcp => response.to_vec(),
        };
        Self { frame, closes: false }
    }

    pub(super) fn observation(observed: &Observed) -> Self {
        let mut frame = Vec::new();
        encode_observation(&mut frame, observed);
        Self { frame, closes: false }
    }

    pub(super) fn state(state: &[u8]) -> Self {
        let mut frame = Vec::new();
        encode_state(&mut frame, state);
        Self { frame, closes: false }
    }

    /// The frame for an outcome, `call` being the JSON-RPC request it answers, if it answers one;
    /// `None` where OpenEnv has none (a session was opened or closed).
    pub(super) fn new(
        dialect: Dialect,
        outcome: Outcome,
        call: Option<&RpcId>,
        env_name: &str,
        full: impl FnOnce() -> Full,
    ) -> Option<Self> {
        Some(match (outcome, call) {
            (Outcome::Failed(failure), call) => {
                Self::failure(dialect, &failure, call, env_name, full)
            }
            (outcome, Some(id)) => Self::rpc(dialect, &rpc::answer(id, outcome, env_name, full)),
            (Outcome::Reset(observed) | Outcome::Stepped(observed), None) => {
                Self::observation(&observed)
            }
            (Outcome::State(state), None) => Self::state(&state),
            (Outcome::ToolResult(response), None) => Self::rpc(dialect, &response),
            (Outcome::Opened | Outcome::Closed, None) => return None,
        })
    }

    fn failure(
        dialect: Dialect,
        failure: &Failure,
        call: Option<&RpcId>,
        env_name: &str,
        full: impl FnOnce() -> Full,
    ) -> Self {
        let Failure { kind, session, message, details, .. } = failure;
        if let (SessionFate::Kept, Some(id)) = (session, call) {
            return Self::rpc(dialect, &rpc::failed(id, failure, env_name, full));
        }
        // A session that was not opened is none, whatever its worker says of its fate.
        let error = rpc::not_opened(failure, env_name, full).unwrap_or_else(|| match session {
            SessionFate::Kept if *kind == FailureKind::Invalid && !details.is_empty() => {
                ServerError::ValidationDetails(details.clone())
            }
            SessionFate::Kept => ServerError::Execution(message.clone()),
            SessionFate::Lost => ServerError::Session(message.clone()),
        });
        Self::error(dialect, &error)
    }
}
