//! The HTTP routes.

mod answer;
mod openapi;
mod stateless;
mod upgrade;

use std::sync::Arc;

use axum::{
    Router,
    extract::{DefaultBodyLimit, Request},
    http::StatusCode,
    response::Response,
    routing::{any, get, post},
};
use bytes::Bytes;
use tokio::sync::{Semaphore, mpsc};

use self::answer::{detail, json};
use crate::{Description, Options, hub::Hub};

/// What the routes work with.
#[derive(Clone)]
pub(crate) struct Routes {
    pub(crate) hub: Arc<Hub>,
    pub(crate) options: Arc<Options>,
    /// Held by every session, so that the front knows when all are gone.
    pub(crate) alive: mpsc::Sender<()>,
}

pub(crate) fn router(routes: Routes) -> Router {
    let Description { name, description, version, .. } = &routes.options.description;
    let metadata = Bytes::from(
        serde_json::json!({
            "name": name,
            "description": description,
            "readme_content": null,
            "version": version,
            "author": null,
            "documentation_url": null,
        })
        .to_string(),
    );
    let schema = schema(&routes.options.description);
    let openapi = openapi::document(&routes.options.description);
    let body_limit = DefaultBodyLimit::max(routes.options.message_bytes_max);
    let permits = Arc::new(Semaphore::new(routes.options.max_stateless as usize));
    let stateless = stateless::Stateless { hub: Arc::clone(&routes.hub), permits };

    Router::new()
        .route("/ws", any(upgrade::upgrade).with_state(routes))
        .route("/health", get(async || json(StatusCode::OK, r#"{"status":"healthy"}"#)))
        .route("/metadata", get(async move || json(StatusCode::OK, metadata.clone())))
        .route("/schema", get(async move || json(StatusCode::OK, schema.clone())))
        .route("/openapi.json", get(async move || json(StatusCode::OK, openapi.clone())))
        .route("/reset", post(stateless::reset))
        .route("/step", post(stateless::step))
        .route("/state", get(stateless::state))
        .with_state(stateless)
        .fallback(not_found)
        .method_not_allowed_fallback(async || {
            detail(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed")
        })
        .layer(body_limit)
}

fn schema(description: &Description) -> Bytes {
    let Description { action_schema, observation_schema, state_schema, .. } = description;
    let mut out = Vec::new();
    for (key, schema) in [
        ("{\"action\":", action_schema),
        (",\"observation\":", observation_schema),
        (",\"state\":", state_schema),
        (",\"reset_observation\":", observation_schema),
    ] {
        out.extend_from_slice(key.as_bytes());
        out.extend_from_slice(if schema.is_empty() { b"{}" } else { schema });
    }
    out.push(b'}');
    out.into()
}

/// A WebSocket is refused by 403 where there is none, as by OpenEnv's servers.
async fn not_found(request: Request) -> Response {
    if upgrade::is_asked(request.headers()) {
        return upgrade::refused();
    }
    detail(StatusCode::NOT_FOUND, "Not Found")
}
