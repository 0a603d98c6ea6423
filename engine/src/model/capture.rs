//! An endpoint for harnesses that play by themselves: `envmill capture`.

use std::{
    collections::HashMap,
    fs, io,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
};
use envmill_agent::AgentError;
use envmill_capture::{Capture, CaptureError, CaptureOptions, Captured, Key, TraceError};
use envmill_chat::Model;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::{
    Bearer, Engines, ModelError, ModelSpec,
    start::{Connected, connect},
    traces::{Line, Traces},
};
use crate::serve::Stop;

/// What an endpoint for harnesses needs.
#[derive(Debug)]
pub struct CaptureSetup {
    /// The inference engine.
    pub spec: ModelSpec,
    /// The folder of its model; `None`: the one that it says it serves.
    pub model: Option<PathBuf>,
    /// Where harnesses find it.
    pub listen: SocketAddr,
    /// Whoever opens and closes episodes has this bearer token. There is one where `listen` is no loopback
    /// address.
    pub token: Option<Bearer>,
    /// Where what was captured goes: `traces.jsonl`.
    pub out: PathBuf,
    /// Episodes that are not closed before are closed after so long.
    pub expires_after: Duration,
    /// How calls are rendered and answered.
    pub options: CaptureOptions,
}

/// Why there is no endpoint.
#[derive(Debug, thiserror::Error)]
pub enum CaptureSetupError {
    /// The language model.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// What it needs of the model.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// Everybody could use it.
    #[error(
        "--listen {0} can be reached from other machines: name a secret with --token-env VARIABLE or \
         --token-file FILE"
    )]
    Open(SocketAddr),
    /// The inference engine speaks text only.
    #[error("--policy {0} speaks text only: there are no tokens to capture")]
    TextOnly(ModelSpec),
    /// The address or the directory.
    #[error("{what}: {source}")]
    Io {
        /// Which.
        what: String,
        /// Why.
        source: io::Error,
    },
}

/// What handlers share.
struct Desk {
    capture: Capture,
    base_url: String,
    token: Option<Bearer>,
    expires_after: Duration,
    /// Those that are open, and since when.
    open: Mutex<HashMap<String, (Key, Instant)>>,
    traces: Traces,
}

impl CaptureSetup {
    /// Serves until `stop` is asked for; then every open episode is closed and kept. `ready` is told the URL.
    ///
    /// # Errors
    ///
    /// See [`CaptureSetupError`].
    pub fn serve(self, stop: &Stop, ready: impl FnOnce(&str)) -> Result<(), CaptureSetupError> {
        if !self.listen.ip().is_loopback() && self.token.is_none() {
            return Err(CaptureSetupError::Open(self.listen));
        }
        let Captures { capture, engines } = captures(&self.spec, self.model, self.options)?;
        let Some(runtime) = engines.handle() else { return Ok(()) };
        let wrong = |what: String| move |source| CaptureSetupError::Io { what, source };
        fs::create_dir_all(&self.out).map_err(wrong(format!("--out {}", self.out.display())))?;
        let path = self.out.join("traces.jsonl");
        let traces = Traces::open(&path).map_err(wrong(path.display().to_string()))?;
        runtime.block_on(async {
            let listener = TcpListener::bind(self.listen).await;
            let listener = listener.map_err(wrong(format!("--listen {}", self.listen)))?;
            let address = listener.local_addr().map_err(wrong("--listen".to_owned()))?;
            let base_url = format!("http://{address}/v1");
            let desk = Arc::new(Desk {
                capture: capture.clone(),
                base_url: base_url.clone(),
                token: self.token,
                expires_after: self.expires_after,
                open: Mutex::default(),
                traces,
            });
            let episodes = Router::new()
                .route("/episodes", post(open))
                .route("/episodes/close", post(close))
                .with_state(Arc::clone(&desk));
            let router = episodes.fallback_service(capture.router());
            ready(&base_url);
            let stopped = stop.clone();
            let served = axum::serve(listener, router)
                .with_graceful_shutdown(async move { stopped.asked().await });
            tokio::select! {
                served = async { served.await } => served.map_err(wrong(self.listen.to_string()))?,
                // Calls that are under way end with their episodes.
                () = stop.asked() => {}
            }
            desk.close_all();
            Ok(())
        })
    }
}

/// An endpoint that nobody serves yet, and the inference engines behind it.
pub(crate) struct Captures {
    pub(crate) capture: Capture,
    pub(crate) engines: Engines,
}

/// Connects to the inference engines of a model, whose folder the user has named or not, and puts an endpoint
/// in front of them.
pub(crate) fn captures(
    spec: &ModelSpec,
    model: Option<PathBuf>,
    options: CaptureOptions,
) -> Result<Captures, CaptureSetupError> {
    let model = model.map(|it| it.display().to_string());
    let Connected { pool, nearest, folder, context_tokens, runtime } = connect(spec, model)?;
    let engines = Engines::new(pool, nearest, runtime);
    let Some(folder) = folder else { return Err(CaptureSetupError::TextOnly(spec.clone())) };
    let model = Model::load(&folder).map_err(AgentError::from).map_err(ModelError::from)?;
    let context_tokens = context_tokens.unwrap_or(options.context_tokens);
    let options = CaptureOptions { context_tokens, ..options };
    let pool = Arc::new(engines.pool().clone());
    let capture = Capture::new(Arc::new(model), pool, options)?;
    Ok(Captures { capture, engines })
}

/// `POST /episodes`: a key for a harness.
async fn open(State(desk): State<Arc<Desk>>, headers: HeaderMap) -> Response {
    if let Some(refusal) = desk.refusal(&headers) {
        return refusal;
    }
    // Those that nobody has closed are over by now, and are kept all the same.
    desk.close_expired();
    match desk.capture.open(Some(desk.expires_after)) {
        Ok(key) => {
            let text = key.as_str().to_owned();
            desk.open().insert(text.clone(), (key, Instant::now()));
            let answer = json!({"api_key": text, "base_url": desk.base_url});
            (StatusCode::CREATED, Json(answer)).into_response()
        }
        Err(error) => refuse(StatusCode::TOO_MANY_REQUESTS, &error.to_string()),
    }
}

#[derive(Deserialize)]
struct Close {
    api_key: String,
    /// What the episode was worth, and whatever else is to be kept with it.
    #[serde(default)]
    reward: Option<f64>,
    #[serde(default)]
    metadata: Value,
}

/// `POST /episodes/close`: what the harness has said and heard.
async fn close(State(desk): State<Arc<Desk>>, headers: HeaderMap, body: Bytes) -> Response {
    if let Some(refusal) = desk.refusal(&headers) {
        return refusal;
    }
    let asked: Close = match serde_json::from_slice(&body) {
        Ok(asked) => asked,
        Err(error) => return refuse(StatusCode::BAD_REQUEST, &error.to_string()),
    };
    let key = desk.open().remove(&asked.api_key);
    let Some(captured) = key.and_then(|(key, _)| desk.capture.close(&key)) else {
        return refuse(StatusCode::NOT_FOUND, "there is no such episode, or it was closed before");
    };
    let keeping = {
        let desk = Arc::clone(&desk);
        // It may be long.
        tokio::task::spawn_blocking(move || desk.keep(&captured, asked.reward, &asked.metadata))
    };
    let kept = keeping.await.unwrap_or_else(|error| Err(error.to_string()));
    let answered = match kept {
        Ok(line) => desk.answer(line).await.map_err(|error| format!("traces.jsonl: {error}")),
        Err(error) => Err(error),
    };
    answered.unwrap_or_else(|error| refuse(StatusCode::INTERNAL_SERVER_ERROR, &error))
}

impl Desk {
    fn open(&self) -> MutexGuard<'_, HashMap<String, (Key, Instant)>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn refusal(&self, headers: &HeaderMap) -> Option<Response> {
        let is_right = self.token.is_none_or(|it| it.is_in(headers));
        (!is_right).then(|| refuse(StatusCode::UNAUTHORIZED, "a bearer token is needed here"))
    }

    /// Writes an episode down; or says, for people, why not.
    fn keep(
        &self,
        captured: &Captured,
        reward: Option<f64>,
        metadata: &Value,
    ) -> Result<Line, String> {
        self.traces.keep(captured, reward, metadata).map_err(|error| match error {
            TraceError::Io(error) => format!("traces.jsonl: {error}"),
            error @ TraceError::NoLogprobs(_) => error.to_string(),
        })
    }

    /// What was written down, as an answer.
    async fn answer(&self, line: Line) -> io::Result<Response> {
        let body = self.traces.body(line).await?;
        let json = (header::CONTENT_TYPE, "application/json".to_owned());
        Ok(([json, (header::CONTENT_LENGTH, line.bytes.to_string())], body).into_response())
    }

    fn close_all(&self) {
        let keys: Vec<_> = self.open().drain().map(|it| it.1).collect();
        for (key, _) in keys {
            self.close(&key);
        }
    }

    /// Episodes whose time is over.
    fn close_expired(&self) {
        let after = self.expires_after;
        let expired: Vec<_> = self
            .open()
            .extract_if(|_, (_, since)| since.elapsed() > after)
            .map(|it| it.1.0)
            .collect();
        for key in expired {
            self.close(&key);
        }
    }

    fn close(&self, key: &Key) {
        let Some(captured) = self.capture.close(key) else { return };
        if let Err(error) = self.keep(&captured, None, &Value::Null) {
            tracing::error!("an episode that nobody closed could not be kept: {error}");
        }
    }
}

/// An error in the shape of the API.
pub(crate) fn refuse(status: StatusCode, message: &str) -> Response {
    let error = json!({"error": {"message": message, "type": "invalid_request_error"}});
    (status, Json(error)).into_response()
}
