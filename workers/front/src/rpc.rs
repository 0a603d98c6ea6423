//! JSON-RPC, as all three ways in speak it: `POST /mcp`, `WS /mcp` and the `mcp` frames of `/ws`.

use bytes::Bytes;
use envmill_protocol::{
    Failure, FailureKind, Outcome,
    openenv::{
        server::{
            RpcCode, RpcId, ServerError, capacity_data, encode_rpc_error, encode_rpc_result,
            factory_data,
        },
        tasks::OWN_METHODS,
    },
};
use serde::Deserialize;

use crate::{hub::Full, named::Refused, options::CALLS_MAX};

/// What a request wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    /// A session, or the name of one.
    Create,
    /// The end of a session.
    Close,
    /// Something of the environment.
    Environment,
    /// What only the front may ask of a worker.
    Own,
}

impl Method {
    pub(crate) fn of(method: &str) -> Self {
        match method {
            "openenv/session/create" => Self::Create,
            "openenv/session/close" => Self::Close,
            own if own.starts_with(OWN_METHODS) => Self::Own,
            _ => Self::Environment,
        }
    }
}

pub(crate) fn error(id: &RpcId, code: RpcCode, message: &str) -> Vec<u8> {
    error_with(id, code, message, b"")
}

fn error_with(id: &RpcId, code: RpcCode, message: &str, data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    encode_rpc_error(&mut out, id, code, message, data);
    out
}

pub(crate) fn method_not_found(id: &RpcId, method: &str) -> Vec<u8> {
    error(id, RpcCode::MethodNotFound, &format!("Method not found: {method}"))
}

/// The answer to `openenv/session/create`.
pub(crate) fn created(id: &RpcId, session_id: &str) -> Vec<u8> {
    result(id, &format!(r#"{{"session_id":{}}}"#, quoted(session_id)))
}

/// The answer to `openenv/session/close`, when the session has ended.
pub(crate) fn closed(id: &RpcId, session_id: &str) -> Vec<u8> {
    result(id, &format!(r#"{{"session_id":{},"closed":true}}"#, quoted(session_id)))
}

/// The answer to `openenv/session/close`, while a WebSocket is attached.
pub(crate) fn closing(id: &RpcId, session_id: &str) -> Vec<u8> {
    let session_id = quoted(session_id);
    result(id, &format!(r#"{{"session_id":{session_id},"closed":false,"closing":true}}"#))
}

fn result(id: &RpcId, value: &str) -> Vec<u8> {
    let mut out = Vec::new();
    encode_rpc_result(&mut out, id, value.as_bytes());
    out
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

pub(crate) fn session_id_missing(id: &RpcId) -> Vec<u8> {
    error(id, RpcCode::InvalidParams, "Invalid params - 'session_id' is required")
}

/// Why a session could not be asked.
pub(crate) fn refused(id: &RpcId, session_id: &str, refused: Refused) -> Vec<u8> {
    match refused {
        // Being attached to is no hindrance to a call.
        Refused::Unknown | Refused::Attached => {
            error(id, RpcCode::InvalidParams, &format!("Unknown session_id: {session_id}"))
        }
        Refused::Initializing => {
            let message = format!("Session {session_id} is still initializing; retry shortly");
            error(id, RpcCode::InvalidRequest, &message)
        }
        Refused::Busy => {
            let message = format!(
                "Session {session_id} is busy: {CALLS_MAX} calls wait for it already; retry shortly"
            );
            error(id, RpcCode::Server, &message)
        }
    }
}

/// A refusal that has no request: there is no room, no environment, or the session is over.
pub(crate) fn server_error(id: &RpcId, error: &ServerError) -> Vec<u8> {
    let data = match error {
        ServerError::Capacity { active_sessions, max_sessions } => {
            capacity_data(*active_sessions, *max_sessions)
        }
        ServerError::Factory { factory_name } => factory_data(factory_name),
        _ => Bytes::new(),
    };
    error_with(id, RpcCode::Server, &error.to_string(), &data)
}

/// The answer to a call that went to the worker: its own text, as it came, where it has one.
pub(crate) fn answer(
    id: &RpcId,
    outcome: Outcome,
    env_name: &str,
    full: impl FnOnce() -> Full,
) -> Bytes {
    match outcome {
        Outcome::ToolResult(response) if !response.is_empty() => response,
        Outcome::Failed(failure) => failed(id, &failure, env_name, full).into(),
        _ => error(id, RpcCode::Internal, "the environment gave no answer").into(),
    }
}

/// A failure of the worker. One that classifies JSON-RPC errors of its own server (see
/// `envmill_protocol::openenv::tool_result`) gets back the code that its failure came from; of those
/// that mean `Refused` only an unknown method is left, since what is no request never got there.
pub(crate) fn failed(
    id: &RpcId,
    failure: &Failure,
    env_name: &str,
    full: impl FnOnce() -> Full,
) -> Vec<u8> {
    if let Some(error) = not_opened(failure, env_name, full) {
        return server_error(id, &error);
    }
    let code = match failure.kind {
        FailureKind::Refused => RpcCode::MethodNotFound,
        FailureKind::Invalid => RpcCode::InvalidParams,
        _ => RpcCode::Internal,
    };
    error(id, code, &failure.message)
}

/// What a worker may say of a refusal in [`Failure::details`].
#[derive(Default, Deserialize)]
struct Details {
    active_sessions: Option<u32>,
    max_sessions: Option<u32>,
    factory_name: Option<String>,
}

/// What is told to a client whose session the worker did not open, for want of room or because the
/// environment could not be made; `None` for any other failure. Where the worker gives no numbers,
/// the sessions beside this one are all it has room for.
pub(crate) fn not_opened(
    failure: &Failure,
    env_name: &str,
    full: impl FnOnce() -> Full,
) -> Option<ServerError> {
    let details = || serde_json::from_slice::<Details>(&failure.details).unwrap_or_default();
    match failure.kind {
        FailureKind::Capacity => {
            let (details, full) = (details(), full());
            let active = details.active_sessions.unwrap_or(full.active.saturating_sub(1));
            let max = details.max_sessions.unwrap_or_else(|| active.clamp(1, full.max.max(1)));
            Some(ServerError::Capacity { active_sessions: active, max_sessions: max })
        }
        FailureKind::Factory => {
            let factory_name = details().factory_name.unwrap_or_else(|| env_name.into());
            Some(ServerError::Factory { factory_name })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn full() -> Full {
        Full { active: 3, max: 10 }
    }

    fn text(bytes: Vec<u8>) -> String {
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_workers_refusal_is_told_with_its_own_numbers_or_ours() {
        let mut failure = Failure::lost(FailureKind::Capacity, "full");
        let told = not_opened(&failure, "E", full);
        assert_eq!(told, Some(ServerError::Capacity { active_sessions: 2, max_sessions: 2 }));
        failure.details = r#"{"active_sessions":7,"max_sessions":8}"#.into();
        let told = not_opened(&failure, "E", full);
        assert_eq!(told, Some(ServerError::Capacity { active_sessions: 7, max_sessions: 8 }));
        let mut failure = Failure::lost(FailureKind::Factory, "boom");
        failure.details = "nonsense".into();
        let told = text(failed(&RpcId::NULL, &failure, "E", full));
        assert!(told.ends_with(r#""data":{"factory_name":"E"}}}"#), "{told}");
        assert_eq!(not_opened(&Failure::lost(FailureKind::Session, ""), "E", full), None);
    }

    #[test]
    fn failures_get_their_codes_back() {
        for (kind, code) in [
            (FailureKind::Refused, -32_601),
            (FailureKind::Invalid, -32_602),
            (FailureKind::Environment, -32_603),
            (FailureKind::Disconnected, -32_603),
        ] {
            let told = text(failed(&RpcId::NULL, &Failure::kept(kind, "m"), "E", full));
            let expected = format!(
                r#"{{"jsonrpc":"2.0","id":null,"error":{{"code":{code},"message":"m","data":null}}}}"#
            );
            assert_eq!(told, expected);
        }
        let told = text(answer(&RpcId::NULL, Outcome::Opened, "E", full).into());
        assert!(told.contains("-32603"), "{told}");
    }
}
