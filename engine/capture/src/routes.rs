//! The endpoint's routes.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{Request, State},
    http::{HeaderMap, Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use bytes::Bytes;
use envmill_inference::{Deliver, Outcome, RequestId};
use serde_json::json;

use crate::{
    Begun, Kept, Timings,
    call::Running,
    capture::Inner,
    episode::{Episode, Flight, Record},
    prepare::{Prepared, prepare},
    refusal::Refusal,
    request::Ask,
    stream::stream,
    trail::identity,
};

/// With the value `auxiliary`, a harness says that a call is no part of its conversation.
const KIND: &str = "x-envmill-kind";

/// Names of requests. Agents of the same process count from 0.
static REQUESTS: AtomicU64 = AtomicU64::new(1 << 48);

pub(crate) fn router(inner: Arc<Inner>) -> Router {
    Router::new()
        .route("/v1/chat/completions", post(completions))
        .route("/v1/models", get(models))
        .fallback(unknown)
        .method_not_allowed_fallback(unknown)
        .with_state(inner)
}

async fn unknown(method: Method, uri: Uri) -> Response {
    let message = format!(
        "Unknown request URL: {method} {}. There are POST /v1/chat/completions and GET /v1/models.",
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

async fn completions(State(inner): State<Arc<Inner>>, request: Request) -> Response {
    let asked = Instant::now();
    let (head, body) = request.into_parts();
    let episode = match episode(&inner, &head.headers) {
        Ok(episode) => episode,
        Err(refusal) => return refusal.into_response(),
    };
    match answer(&inner, &episode, &head.headers, body, asked).await {
        Ok(response) => response,
        Err(refusal) => refusal.into_response(),
    }
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
    headers: &HeaderMap,
    body: Body,
    asked: Instant,
) -> Result<Response, Refusal> {
    // What it says itself it has counted.
    let flight = episode.admit()?;
    let aside = headers.get(KIND).is_some_and(|it| it.as_bytes() == b"auxiliary");
    let begun = begin(inner, flight, aside, body, asked).await;
    let mut running = begun.inspect_err(|_| episode.refused())?;
    if running.shape.stream {
        return stream(running).await;
    }
    loop {
        if let Some(last) = running.step().await?.last {
            let json = [(header::CONTENT_TYPE, "application/json")];
            return Ok((json, last.whole).into_response());
        }
    }
}

/// Everything up to the engine.
async fn begin(
    inner: &Arc<Inner>,
    flight: Flight,
    aside: bool,
    body: Body,
    asked: Instant,
) -> Result<Running, Refusal> {
    let limits = &inner.options.limits;
    let body = to_bytes(body, limits.body_bytes).await.map_err(|_| {
        let message = format!("The body is longer than {} bytes, or broken.", limits.body_bytes);
        Refusal::invalid(StatusCode::PAYLOAD_TOO_LARGE, message, None)
    })?;
    let (ask, prepared, body) = prepared(inner, &flight.episode, body).await?;
    let id = RequestId(REQUESTS.fetch_add(1, Ordering::Relaxed));
    let record = record(&ask, &prepared, id, (aside, asked), Kept::of(body, limits.kept_bytes));
    let request = envmill_inference::Request {
        id,
        prompt: Arc::clone(&prepared.prompt),
        messages: None,
        sampling: Arc::new(ask.sampling.clone()),
        max_tokens: prepared.max_tokens,
        seed: ask.seed,
        affinity: Some(flight.episode.affinity),
        deliver: if ask.shape.stream { Deliver::Streamed } else { Deliver::Whole },
    };
    let mut flight = flight;
    let turn = flight.begin(record)?;
    let generation = inner.engine.generate(request);
    let shared = (Arc::clone(&inner.model), Arc::clone(&inner.options));
    Ok(Running::new(generation, (flight, turn), shared, (ask, prepared), id))
}

/// Reads, renders and tokenises, on a thread that may be kept busy with it.
async fn prepared(
    inner: &Arc<Inner>,
    episode: &Arc<Episode>,
    body: Bytes,
) -> Result<(Ask, Prepared, Bytes), Refusal> {
    let failed = |_| Refusal::server(StatusCode::INTERNAL_SERVER_ERROR, "a call was not prepared");
    let permit = Arc::clone(&inner.preparing).acquire_owned().await.map_err(|_| failed(()))?;
    let (inner, episode) = (Arc::clone(inner), Arc::clone(episode));
    let task = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        let ask = Ask::read(&body, &inner.options)?;
        if !ask.shape.stop.is_empty() && !inner.engine.capabilities().stop_strings {
            return Err(Refusal::bad("stop", "this inference engine knows no stop texts"));
        }
        let prepared = prepare(&inner.chats, &inner.options, &episode, &ask)?;
        Ok((ask, prepared, body))
    });
    task.await.map_err(|_| failed(()))?
}

fn record(
    ask: &Ask,
    prepared: &Prepared,
    id: RequestId,
    (aside, asked): (bool, Instant),
    request: Kept,
) -> Record {
    let begun: Begun = prepared.begun;
    Record {
        id,
        parent: prepared.parent,
        begun,
        identity: identity(&ask.model, &ask.messages),
        aside,
        prompt: Arc::clone(&prepared.prompt),
        outcome: Outcome::default(),
        request,
        response: Kept::none(),
        end: None,
        asked,
        timings: Timings::default(),
        node: None,
    }
}
