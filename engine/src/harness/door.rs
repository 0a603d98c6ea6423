//! Where programs that come by themselves ask for episodes, and say how these ended.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
};
use envmill_capture::{Capture, OpenError};
use serde::Deserialize;
use serde_json::{json, value::RawValue};
use tokio::sync::{Notify, oneshot};

use super::{
    outcome::{Outcome, Said},
    play::Opened,
};
use crate::model::{Bearer, refuse};

/// The longest that a program may wait for an episode in one request.
const WAIT_MAX: Duration = Duration::from_mins(1);
/// The longest request, in bytes.
const BODY_BYTES_MAX: usize = 1 << 20;

/// What waits there. As many wait as the core lets sessions be.
#[derive(Default)]
pub(super) struct Door {
    table: Mutex<Table>,
    /// Told of each that comes to wait.
    came: Notify,
}

#[derive(Default)]
struct Table {
    /// Episodes that nobody has asked for yet, the first in front.
    offers: VecDeque<Offer>,
    /// Those that somebody plays, by their keys.
    played: HashMap<String, oneshot::Sender<Outcome>>,
}

struct Offer {
    task: Box<RawValue>,
    limit: Duration,
    taken: oneshot::Sender<Taken>,
}

/// An episode that somebody plays.
pub(super) struct Taken {
    pub(super) opened: Opened,
    /// How it ended, once its program says so.
    pub(super) told: oneshot::Receiver<Outcome>,
}

impl Door {
    /// Waits until somebody asks for an episode with this task. `None`: nobody will any more.
    pub(super) async fn offer(&self, task: String, limit: Duration) -> Option<Taken> {
        let (taken, opened) = oneshot::channel();
        let task = RawValue::from_string(task).ok()?;
        self.table().offers.push_back(Offer { task, limit, taken });
        self.came.notify_one();
        opened.await.ok()
    }

    /// The first that waits, if one does. Those that were given up meanwhile are dropped.
    fn next(&self) -> Option<Offer> {
        let mut table = self.table();
        std::iter::from_fn(|| table.offers.pop_front()).find(|it| !it.taken.is_closed())
    }

    /// Hands an episode to a program. False: it was given up at this moment.
    fn hand_over(&self, taken: oneshot::Sender<Taken>, opened: Opened) -> bool {
        let (tell, told) = oneshot::channel();
        let mut table = self.table();
        // Those that are over without their program's word.
        table.played.retain(|_, it| !it.is_closed());
        table.played.insert(opened.key().to_owned(), tell);
        drop(table);
        taken.send(Taken { opened, told }).is_ok()
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // A panic under the lock leaves nothing half done.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What handlers share.
pub(super) struct Desk {
    pub(super) door: Arc<Door>,
    pub(super) capture: Capture,
    pub(super) base_url: String,
    pub(super) token: Option<Bearer>,
}

/// The routes of the endpoint, with those of the door in front.
pub(super) fn router(desk: Desk) -> Router {
    let calls = desk.capture.router();
    Router::new()
        .route("/episodes", post(open))
        .route("/episodes/close", post(close))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(Arc::new(desk))
        .fallback_service(calls)
}

#[derive(Default, Deserialize)]
struct Ask {
    #[serde(default)]
    wait_s: u64,
}

/// `POST /episodes`: an episode for a program, or nothing (204) if none comes within `wait_s`.
async fn open(State(desk): State<Arc<Desk>>, headers: HeaderMap, body: Bytes) -> Response {
    if let Some(refusal) = desk.refusal(&headers) {
        return refusal;
    }
    let ask = if body.is_empty() { Ok(Ask::default()) } else { serde_json::from_slice(&body) };
    let ask = match ask {
        Ok(ask) => ask,
        Err(error) => return refuse(StatusCode::BAD_REQUEST, &error.to_string()),
    };
    let wait = Duration::from_secs(ask.wait_s).min(WAIT_MAX);
    match tokio::time::timeout(wait, desk.take()).await {
        Ok(Ok(answer)) => {
            let json = [(header::CONTENT_TYPE, "application/json")];
            (StatusCode::CREATED, json, answer).into_response()
        }
        Ok(Err(error)) => refuse(StatusCode::TOO_MANY_REQUESTS, &error.to_string()),
        Err(_) => StatusCode::NO_CONTENT.into_response(),
    }
}

#[derive(Deserialize)]
struct Close {
    api_key: String,
    /// Why it has failed, if it has.
    #[serde(default)]
    error: Option<String>,
    #[serde(default)]
    reward: Option<Box<RawValue>>,
    #[serde(default)]
    metadata: Option<Box<RawValue>>,
}

/// `POST /episodes/close`: an episode is over.
async fn close(State(desk): State<Arc<Desk>>, headers: HeaderMap, body: Bytes) -> Response {
    if let Some(refusal) = desk.refusal(&headers) {
        return refusal;
    }
    let Close { api_key, error, reward, metadata } = match serde_json::from_slice(&body) {
        Ok(close) => close,
        Err(error) => return refuse(StatusCode::BAD_REQUEST, &error.to_string()),
    };
    let outcome = Outcome { ended: "closed".into(), error, ..Outcome::default() };
    let outcome = outcome.saying(Said { reward, metadata });
    let told = desk.door.table().played.remove(&api_key);
    match told.map(|it| it.send(outcome)) {
        Some(Ok(())) => Json(json!({})).into_response(),
        Some(Err(_)) | None => {
            refuse(StatusCode::NOT_FOUND, "there is no such episode, or it is over")
        }
    }
}

impl Desk {
    fn refusal(&self, headers: &HeaderMap) -> Option<Response> {
        let is_right = self.token.is_none_or(|it| it.is_in(headers));
        (!is_right).then(|| refuse(StatusCode::UNAUTHORIZED, "a bearer token is needed here"))
    }

    /// Waits for an episode, and opens it. Where nobody waits for this any more, nothing has been taken.
    async fn take(&self) -> Result<String, OpenError> {
        loop {
            let came = self.door.came.notified();
            let Some(Offer { task, limit, taken }) = self.door.next() else {
                came.await;
                continue;
            };
            let opened = Opened::new(&self.capture, limit)?;
            let answer = format!(
                "{{\"api_key\":{},\"base_url\":{},\"deadline_s\":{},\"task\":{}}}",
                json!(opened.key()),
                json!(self.base_url),
                limit.as_secs(),
                task.get()
            );
            // It may have been given up at this moment; then another one is.
            if self.door.hand_over(taken, opened) {
                return Ok(answer);
            }
        }
    }
}
