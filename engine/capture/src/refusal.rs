//! Errors in the shape that OpenAI's clients know.

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use envmill_chat::ChatError;
use envmill_inference::{Error, ErrorKind};
use serde_json::json;

/// Why a call has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    kind: &'static str,
    pub(crate) message: String,
    param: Option<String>,
    code: Option<&'static str>,
}

impl Refusal {
    /// The call is wrong; it would be so the next time, too.
    pub(crate) fn bad(param: impl Into<String>, message: impl Into<String>) -> Self {
        let refusal = Self::invalid(StatusCode::BAD_REQUEST, message, None);
        Self { param: Some(param.into()), ..refusal }
    }

    pub(crate) fn invalid(
        status: StatusCode,
        message: impl Into<String>,
        code: Option<&'static str>,
    ) -> Self {
        let kind = "invalid_request_error";
        Self { status, kind, message: message.into(), param: None, code }
    }

    /// Nobody knows the key, or knows it any more.
    pub(crate) fn key(message: &str) -> Self {
        Self::invalid(StatusCode::UNAUTHORIZED, message, Some("invalid_api_key"))
    }

    /// Later there may be room. Clients come again after a moment.
    pub(crate) fn busy(message: impl Into<String>) -> Self {
        Self {
            kind: "rate_limit_error",
            ..Self::invalid(StatusCode::TOO_MANY_REQUESTS, message, Some("rate_limit_exceeded"))
        }
    }

    pub(crate) fn server(status: StatusCode, message: impl Into<String>) -> Self {
        Self { kind: "server_error", ..Self::invalid(status, message, None) }
    }

    pub(crate) fn too_long(name: &str, prompt: usize, context: u32) -> Self {
        let message = format!(
            "This model's maximum context length is {context} tokens. However, your {name} resulted in \
             {prompt} tokens. Please reduce the length of the {name}."
        );
        Self {
            param: Some(name.to_owned()),
            ..Self::invalid(StatusCode::BAD_REQUEST, message, Some("context_length_exceeded"))
        }
    }

    pub(crate) fn chat(error: &ChatError) -> Self {
        match error {
            ChatError::Token(_) | ChatError::NoTemplate { .. } => {
                Self::server(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
            }
            ChatError::Template(_) | ChatError::OutOfTurn | ChatError::NoMessages => {
                Self::bad("messages", error.to_string())
            }
        }
    }

    /// As the error of a stream that has begun: there is no status any more.
    pub(crate) fn body(&self) -> String {
        let Self { message, kind, param, code, .. } = self;
        json!({"error": {"message": message, "type": kind, "param": param, "code": code}})
            .to_string()
    }
}

impl From<&Error> for Refusal {
    fn from(error: &Error) -> Self {
        let message = error.to_string();
        match error.kind {
            ErrorKind::Refused => Self::invalid(StatusCode::BAD_REQUEST, message, None),
            ErrorKind::Busy => Self::busy(message),
            ErrorKind::Lost | ErrorKind::Nonsense => Self::server(StatusCode::BAD_GATEWAY, message),
            ErrorKind::Silent => Self::server(StatusCode::GATEWAY_TIMEOUT, message),
            ErrorKind::Unsupported => Self::server(StatusCode::INTERNAL_SERVER_ERROR, message),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let json = HeaderValue::from_static("application/json");
        let mut response =
            (self.status, [(header::CONTENT_TYPE, json)], self.body()).into_response();
        if self.status == StatusCode::TOO_MANY_REQUESTS {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}
