//! The endpoint's routes.

use std::{sync::Arc, time::Instant};

use axum::{
    Router,
    extract::{Request, State},
    http::{HeaderMap, Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde_json::json;

use crate::{
    begin::{Asked, begin},
    capture::Inner,
    episode::Episode,
    refusal::Refusal,
    request::Api,
    stream::stream,
    whole::whole,
};

/// With the value `auxiliary`, a harness says that a call is no part of its conversation.
const KIND: &str = "x-envmill-kind";

pub(crate) fn router(inner: Arc<Inner>) -> Router {
    Router::new()
        .route("/v1/chat/completions", post(chat))
        .route("/v1/completions", post(completions))
        .route("/v1/models", get(models))
        .fallback(unknown)
        .method_not_allowed_fallback(unknown)
        .with_state(inner)
}

async fn unknown(method: Method, uri: Uri) -> Response {
    let message = format!(
        "Unknown request URL: {method} {}. There are POST /v1/chat/completions, POST /v1/completions \
         and GET /v1/models.",
        uri.path()
    );
    Refusal::invalid(StatusCode::NOT_FOUND, message, Some("unknown_url")).into_response()
}

async fn models(State(inner): State<Arc<Inner>>, headers: HeaderMap) -> Response {
    if let Err(refusal) = episode(&inner, &headers) {
        return refusal.into_response();
    }
    let model = json!({
        "id": inner.options.model,
        "object": "model",
        "created": inner.started,
        "owned_by": "envmill",
        "max_model_len": inner.options.context_tokens,
    });
    let body = json!({"object": "list", "data": [model]}).to_string();
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

async fn chat(State(inner): State<Arc<Inner>>, request: Request) -> Response {
    answered(&inner, Api::Chat, request).await
}

async fn completions(State(inner): State<Arc<Inner>>, request: Request) -> Response {
    answered(&inner, Api::Completions, request).await
}

async fn answered(inner: &Arc<Inner>, api: Api, request: Request) -> Response {
    let at = Instant::now();
    let (head, body) = request.into_parts();
    let episode = match episode(inner, &head.headers) {
        Ok(episode) => episode,
        Err(refusal) => return refusal.into_response(),
    };
    let aside = head.headers.get(KIND).is_some_and(|it| it.as_bytes() == b"auxiliary");
    let asked = Asked { api, aside, body, at };
    answer(inner, &episode, asked).await.unwrap_or_else(IntoResponse::into_response)
}

fn episode(inner: &Inner, headers: &HeaderMap) -> Result<Arc<Episode>, Refusal> {
    let given = headers.get(header::AUTHORIZATION).and_then(|it| it.to_str().ok());
    let key = given.and_then(|it| it.split_once(' ')).filter(|(scheme, _)| {
        // The scheme's case does not matter in HTTP.
        scheme.eq_ignore_ascii_case("bearer")
    });
    let Some((_, key)) = key else {
        let message = "You didn't provide an API key. It goes into the Authorization header, as \
                       'Bearer YOUR_KEY'.";
        return Err(Refusal::key(message));
    };
    inner.episode(key.trim()).ok_or_else(|| {
        Refusal::key("Incorrect API key provided: it names no episode that is open.")
    })
}

async fn answer(
    inner: &Arc<Inner>,
    episode: &Arc<Episode>,
    asked: Asked,
) -> Result<Response, Refusal> {
    // What it says itself it has counted.
    let flight = episode.admit()?;
    let begun = begin(inner, flight, asked).await;
    let (common, choices) = begun.inspect_err(|_| episode.refused())?;
    if common.shape.stream { stream(common, choices).await } else { whole(choices).await }
}
