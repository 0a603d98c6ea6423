//! From HTTP to WebSocket.
//!
//! Done by hand, and not by the router's extractor, because a session wants the bare socket: it reads
//! without a buffer of its own and can throw away what it refuses.

use axum::{
    body::Body,
    extract::{Query, Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    response::Response,
};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::TcpStream;
use tungstenite::handshake::derive_accept_key;

use super::{Routes, answer::detail};
use crate::session;

/// What a client may add to the path.
#[derive(Deserialize)]
pub(super) struct Attach {
    session_id: Option<String>,
}

/// `GET /ws`.
pub(super) async fn upgrade(
    State(routes): State<Routes>,
    Query(attach): Query<Attach>,
    mut request: Request,
) -> Response {
    let headers = request.headers();
    if request.method() != Method::GET || !is_asked(headers) {
        return detail(StatusCode::NOT_FOUND, "Not Found");
    }
    let key = headers.get(header::SEC_WEBSOCKET_KEY);
    let version = headers.get(header::SEC_WEBSOCKET_VERSION);
    let (Some(key), true) = (key, version.is_some_and(|version| version == "13")) else {
        let mut response = detail(StatusCode::BAD_REQUEST, "WebSocket version 13 is needed");
        let version = HeaderValue::from_static("13");
        response.headers_mut().insert(header::SEC_WEBSOCKET_VERSION, version);
        return response;
    };
    let accept = derive_accept_key(key.as_bytes());

    let upgraded = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let Ok(upgraded) = upgraded.await else { return };
        // The front serves nothing but TCP streams.
        let Ok(parts) = upgraded.downcast::<TokioIo<TcpStream>>() else { return };
        let Routes { hub, options, alive } = routes;
        let (stream, early) = (parts.io.into_inner(), parts.read_buf.to_vec());
        session::run(hub, options, stream, early, attach.session_id, alive).await;
    });

    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    if let Ok(accept) = HeaderValue::try_from(accept) {
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    }
    response
}

/// Whether the request asks for a WebSocket.
pub(super) fn is_asked(headers: &HeaderMap) -> bool {
    headers
        .get(header::UPGRADE)
        .is_some_and(|upgrade| upgrade.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

/// No WebSocket here.
pub(super) fn refused() -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::FORBIDDEN;
    response
}
