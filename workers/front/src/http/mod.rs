//! The HTTP routes.

mod answer;
mod body;
mod integer;
mod mcp;
mod openapi;
mod stateless;
mod tasks;
mod throwaway;
mod upgrade;

use std::sync::Arc;

use axum::{
    Router,
    extract::{DefaultBodyLimit, Request},
    http::{HeaderValue, StatusCode, header},
    middleware::{self, Next},
    response::Response,
    routing::{any, get, post},
};
use tokio::sync::{Semaphore, mpsc};

use self::answer::{detail, json};
use crate::{Mode, session::Surroundings};

/// What the routes work with.
#[derive(Clone)]
pub(crate) struct Routes {
    surroundings: Surroundings,
    /// For environments that are made for one request.
    permits: Arc<Semaphore>,
    /// Held by every WebSocket, so that the front knows when all are gone.
    alive: mpsc::Sender<()>,
}

impl Routes {
    pub(crate) fn new(surroundings: Surroundings, alive: mpsc::Sender<()>) -> Self {
        let permits = Arc::new(Semaphore::new(surroundings.options.max_stateless as usize));
        Self { surroundings, permits, alive }
    }
}

pub(crate) fn router(routes: Routes) -> Router {
    let options = Arc::clone(&routes.surroundings.options);
    let metadata = options.description.metadata();
    let schema = options.description.schema();
    let openapi = openapi::document(&options.description, options.mode);

    let router = Router::new()
        .route("/ws", any(upgrade::ws))
        .route("/mcp", post(mcp::post).get(upgrade::mcp))
        .route("/list_environments", get(tasks::list_environments))
        .route("/{env_name}/splits", get(tasks::list_splits))
        .route("/{env_name}/tasks", post(tasks::list_tasks))
        .route("/{env_name}/num_tasks", post(tasks::num_tasks))
        .route("/{env_name}/task", post(tasks::get_task))
        .route("/{env_name}/task_range", post(tasks::get_task_range))
        .route("/health", get(async || json(StatusCode::OK, r#"{"status":"healthy"}"#)))
        .route("/metadata", get(async move || json(StatusCode::OK, metadata.clone())))
        .route("/schema", get(async move || json(StatusCode::OK, schema.clone())))
        .route("/openapi.json", get(async move || json(StatusCode::OK, openapi.clone())));
    let router = match options.mode {
        Mode::Simulation => router
            .route("/reset", post(stateless::reset))
            .route("/step", post(stateless::step))
            .route("/state", get(stateless::state)),
        Mode::Production => router,
    };
    let mode = options.mode;
    router
        .with_state(routes)
        .fallback(async move |request: Request| not_found(mode, &request))
        .method_not_allowed_fallback(async || method_not_allowed())
        .layer(DefaultBodyLimit::max(options.message_bytes_max))
        .layer(middleware::from_fn(refuse_sockets))
}

/// Refuses a WebSocket by 403 where there is none, as OpenEnv's servers do.
async fn refuse_sockets(request: Request, next: Next) -> Response {
    if upgrade::is_asked(&request) && !matches!(request.uri().path(), "/ws" | "/mcp") {
        return upgrade::refused();
    }
    next.run(request).await
}

/// A path with a slash too many is redirected, as by OpenEnv's servers.
fn not_found(mode: Mode, request: &Request) -> Response {
    redirect(mode, request).unwrap_or_else(|| detail(StatusCode::NOT_FOUND, "Not Found"))
}

fn method_not_allowed() -> Response {
    detail(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed")
}

/// To the same path without slashes at its end, if there is such a route.
fn redirect(mode: Mode, request: &Request) -> Option<Response> {
    let path = request.uri().path();
    let target = path.trim_end_matches('/');
    if target == path || !is_route(mode, target.strip_prefix('/')?) {
        return None;
    }
    let query = request.uri().query().map(|query| format!("?{query}")).unwrap_or_default();
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let origin = host.map(|host| format!("http://{host}")).unwrap_or_default();
    let location = HeaderValue::try_from(format!("{origin}{target}{query}")).ok()?;
    let mut response = Response::new(axum::body::Body::empty());
    *response.status_mut() = StatusCode::TEMPORARY_REDIRECT;
    response.headers_mut().insert(header::LOCATION, location);
    Some(response)
}

/// Whether something is served at `/path` over HTTP.
fn is_route(mode: Mode, path: &str) -> bool {
    match path {
        "mcp" | "list_environments" | "health" | "metadata" | "schema" | "openapi.json" => true,
        "reset" | "step" | "state" => mode == Mode::Simulation,
        path => path.split_once('/').is_some_and(|(env_name, question)| {
            let known = ["splits", "tasks", "num_tasks", "task", "task_range"];
            !env_name.is_empty() && known.contains(&question)
        }),
    }
}
