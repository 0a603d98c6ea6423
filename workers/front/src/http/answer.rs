//! Answers in the shape of FastAPI's.

use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::Response,
};

/// JSON text as an answer.
pub(super) fn json(status: StatusCode, text: impl Into<Body>) -> Response {
    typed(status, "application/json", text)
}

/// Plain text as an answer.
pub(super) fn plain(status: StatusCode, text: &'static str) -> Response {
    typed(status, "text/plain; charset=utf-8", text)
}

/// `{"detail": …}`.
pub(super) fn detail(status: StatusCode, text: &str) -> Response {
    json(status, serde_json::json!({ "detail": text }).to_string())
}

fn typed(status: StatusCode, kind: &'static str, text: impl Into<Body>) -> Response {
    let mut response = Response::new(text.into());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
