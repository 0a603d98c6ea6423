//! Answers of tools: JSON-RPC 2.0 responses, matched with their requests and classified.

use std::borrow::Cow;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, value::RawValue};

use crate::{Failure, FailureKind, json_text};

/// What names a JSON-RPC request in its response: a text, a number or nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CallId(Value);

#[derive(Deserialize)]
struct Named {
    #[serde(default)]
    id: Value,
}

impl CallId {
    /// The id of a request: the text of one JSON object. A request that is none, or has no id, is
    /// answered with the id `null`.
    #[must_use]
    pub fn of(request: &[u8]) -> Self {
        serde_json::from_slice::<Named>(request)
            .map_or_else(|_| Self::default(), |named| Self(named.id))
    }
}

/// Everything is of any type: a response that is itself wrong still says something.
#[derive(Deserialize)]
struct Response<'a> {
    #[serde(default)]
    id: Value,
    #[serde(borrow, default, deserialize_with = "json_text::present")]
    result: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct RpcError<'a> {
    #[serde(default)]
    code: Value,
    #[serde(borrow)]
    message: Option<&'a RawValue>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

/// What a server adds to a refusal of a new session.
#[derive(Default, Deserialize)]
struct Refusal {
    #[serde(default)]
    max_sessions: Value,
    #[serde(default)]
    factory_name: Value,
}

/// Checks that `response` (the text of one JSON value) answers the call named `id`, and takes its
/// errors for what they are. A tool that answers `is_error` has answered: that is a result.
///
/// | code | failure | session |
/// |---|---|---|
/// | -32700, -32600, -32601: no JSON, no request, no such method | `Refused` | kept |
/// | -32602: wrong parameters | `Invalid` | kept |
/// | -32603: the tool raised an exception, or there is no such tool | `Environment` | kept |
/// | -32000 with `max_sessions` | `Capacity` | lost |
/// | -32000 with `factory_name` | `Factory` | lost |
/// | any other | `Environment` | kept |
///
/// # Errors
///
/// The failure that an error stands for. An answer to another call, or one that is no JSON-RPC
/// response, is [`FailureKind::Protocol`] and the session is lost: its answers are out of step.
pub fn tool_result(response: &Bytes, id: &CallId) -> Result<Bytes, Failure> {
    let parsed: Response<'_> = serde_json::from_slice(response).map_err(|error| {
        Failure::lost(
            FailureKind::Protocol,
            format!("a tool's answer is no JSON-RPC response: {error}"),
        )
    })?;
    let error = parsed.error.filter(|error| error.get() != "null");
    // What could not be read has no id to give back.
    let unread = error.is_some() && parsed.id.is_null();
    if parsed.id != id.0 && !unread {
        return Err(Failure::lost(
            FailureKind::Protocol,
            format!("a tool's answer is for the call {}, not {}", parsed.id, id.0),
        ));
    }
    match (error, parsed.result) {
        (Some(error), _) => Err(classified(error)),
        (None, Some(_)) => Ok(response.clone()),
        (None, None) => Err(Failure::lost(
            FailureKind::Protocol,
            "a tool's answer has neither a result nor an error",
        )),
    }
}

/// The result alone, a slice of the `response`, of one that [`tool_result`] lets pass.
///
/// # Errors
///
/// As those of [`tool_result`].
pub fn call_result(response: &Bytes, id: &CallId) -> Result<Bytes, Failure> {
    let response = tool_result(response, id)?;
    let parsed: Response<'_> = serde_json::from_slice(&response)
        .map_err(|error| Failure::lost(FailureKind::Protocol, error.to_string()))?;
    Ok(parsed.result.map_or_else(
        || Bytes::from_static(b"null"),
        |result| response.slice_ref(result.get().as_bytes()),
    ))
}

fn classified(error: &RawValue) -> Failure {
    let Ok(error) = serde_json::from_str::<RpcError<'_>>(error.get()) else {
        return Failure::kept(FailureKind::Environment, error.get());
    };
    let refusal: Refusal =
        error.data.and_then(|data| serde_json::from_str(data.get()).ok()).unwrap_or_default();
    let code = error.code.as_i64().unwrap_or_default();
    let said = error.message.map_or(Cow::Borrowed(""), |message| {
        json_text::string(message).unwrap_or_else(|| message.get().into())
    });
    let message = format!("JSON-RPC error {code}: {said}");
    match code {
        -32_700 | -32_600 | -32_601 => Failure::kept(FailureKind::Refused, message),
        -32_602 => Failure::kept(FailureKind::Invalid, message),
        -32_000 if !refusal.max_sessions.is_null() => Failure::lost(FailureKind::Capacity, message),
        -32_000 if !refusal.factory_name.is_null() => Failure::lost(FailureKind::Factory, message),
        _ => Failure::kept(FailureKind::Environment, message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SessionFate;

    fn answer(id: &str, response: &str) -> Result<Bytes, Failure> {
        let request = format!(r#"{{"jsonrpc":"2.0","method":"tools/call","id":{id}}}"#);
        tool_result(&Bytes::copy_from_slice(response.as_bytes()), &CallId::of(request.as_bytes()))
    }

    #[test]
    fn results_are_passed_on_as_they_are() {
        for (id, response) in [
            ("1", r#"{"jsonrpc":"2.0","id":1,"result":{"is_error":true}}"#),
            (r#""a\u0062""#, r#"{"id":"ab","result":null,"jsonrpc":"2.0"}"#),
            ("null", r#"{"result":3}"#),
            ("2", r#"{"id":2,"error":null,"result":3}"#),
        ] {
            assert_eq!(answer(id, response).unwrap(), response);
        }
    }

    #[test]
    fn answers_to_other_calls_end_the_session() {
        for response in [
            r#"{"id":2,"result":{}}"#,
            r#"{"id":"1","result":{}}"#,
            r#"{"id":2,"error":{"code":-32603}}"#,
            r#"{"id":1}"#,
            "[1]",
            "nonsense",
        ] {
            let failure = answer("1", response).unwrap_err();
            assert_eq!(failure.kind, FailureKind::Protocol, "{response}");
            assert_eq!(failure.session, SessionFate::Lost);
        }
    }

    #[test]
    fn errors_are_classified() {
        for (error, kind, session) in [
            (r#"{"code":-32700,"message":"x"}"#, FailureKind::Refused, SessionFate::Kept),
            (r#"{"code":-32601,"message":"x"}"#, FailureKind::Refused, SessionFate::Kept),
            (r#"{"code":-32602,"message":"x"}"#, FailureKind::Invalid, SessionFate::Kept),
            (
                r#"{"code":-32603,"message":"tool boom","data":null}"#,
                FailureKind::Environment,
                SessionFate::Kept,
            ),
            (
                r#"{"code":-32000,"message":"full","data":{"max_sessions":4}}"#,
                FailureKind::Capacity,
                SessionFate::Lost,
            ),
            (
                r#"{"code":-32000,"data":{"factory_name":"E"}}"#,
                FailureKind::Factory,
                SessionFate::Lost,
            ),
            (r#"{"code":-32000}"#, FailureKind::Environment, SessionFate::Kept),
            (r#""text""#, FailureKind::Environment, SessionFate::Kept),
        ] {
            for id in ["1", "null"] {
                let response = format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{error}}}"#);
                let failure = answer("1", &response).unwrap_err();
                assert_eq!((failure.kind, failure.session), (kind, session), "{error}");
            }
        }
    }
}
