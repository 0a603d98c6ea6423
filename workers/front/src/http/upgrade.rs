//! From HTTP to WebSocket.
//!
//! Done by hand, and not by the router's extractor, because a session wants the bare socket: it reads
//! without a buffer of its own and can throw away what it refuses.

use axum::{
    body::Body,
    extract::{Query, Request, State},
    http::{HeaderValue, Method, StatusCode, header},
    response::Response,
};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tungstenite::handshake::derive_accept_key;

use super::{Routes, answer::detail, method_not_allowed};
use crate::session::{self, Dialect};

/// `WS /ws`; over HTTP there is nothing.
pub(super) async fn ws(
    State(routes): State<Routes>,
    Query(query): Query<Vec<(String, String)>>,
    request: Request,
) -> Response {
    if is_asked(&request) {
        // Of several the last counts, as in Python.
        let attach = query.into_iter().rfind(|(key, _)| key == "session_id").map(|(_, id)| id);
        return upgrade(routes, Dialect::Ws, attach, request);
    }
    detail(StatusCode::NOT_FOUND, "Not Found")
}

/// `WS /mcp`; over HTTP there is no `GET`.
pub(super) async fn mcp(State(routes): State<Routes>, request: Request) -> Response {
    if is_asked(&request) {
        return upgrade(routes, Dialect::Mcp, None, request);
    }
    let mut response = method_not_allowed();
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
    response
}

fn upgrade(
    routes: Routes,
    dialect: Dialect,
    attach: Option<String>,
    mut request: Request,
) -> Response {
    let headers = request.headers();
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
        let Routes { surroundings, alive, .. } = routes;
        let (stream, early) = (parts.io.into_inner(), parts.read_buf.to_vec());
        session::run(surroundings, dialect, stream, early, attach, alive).await;
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
pub(super) fn is_asked(request: &Request) -> bool {
    request.method() == Method::GET
        && request
            .headers()
            .get(header::UPGRADE)
            .is_some_and(|upgrade| upgrade.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

/// No WebSocket here.
pub(super) fn refused() -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::FORBIDDEN;
    response
}
