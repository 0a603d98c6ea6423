//! `/reset`, `/step` and `/state`: each call makes an environment, acts once and throws it away. Good
//! for a look with curl; useless for episodes, as in OpenEnv itself.

use std::{collections::BTreeMap, future::poll_fn, sync::Arc};

use axum::{extract::State, http::StatusCode, response::Response};
use bytes::Bytes;
use envmill_protocol::{FailureKind, Observed, Outcome, Request};
use serde_json::{Value, value::RawValue};
use tokio::sync::Semaphore;

use super::answer::{detail, json, plain, unprocessable};
use crate::hub::Hub;

/// The longest episode id that a reset may give, in characters.
const EPISODE_ID_MAX: usize = 255;

/// What these routes work with.
#[derive(Clone)]
pub(super) struct Stateless {
    pub(super) hub: Arc<Hub>,
    pub(super) permits: Arc<Semaphore>,
}

/// `POST /reset`: the body is the reset parameters, or empty.
pub(super) async fn reset(State(stateless): State<Stateless>, body: Bytes) -> Response {
    let parameters = if matches!(body.trim_ascii(), b"" | b"null") { Bytes::new() } else { body };
    if !parameters.is_empty() {
        let fields = match fields(&parameters) {
            Ok(fields) => fields,
            Err(response) => return *response,
        };
        if let Err(response) = check_reset(&fields) {
            return *response;
        }
    }
    answer(stateless.act(Request::Reset { parameters }).await)
}

/// `POST /step`: the body is `{"action": {…}}`.
pub(super) async fn step(State(stateless): State<Stateless>, body: Bytes) -> Response {
    let action = match fields(&body) {
        Ok(fields) => match fields.get("action") {
            Some(action) if action.get().starts_with('{') => {
                body.slice_ref(action.get().as_bytes())
            }
            Some(action) => {
                let message = "Input should be a valid dictionary";
                return unprocessable("dict_type", &["body", "action"], message, &value(action));
            }
            None => {
                let input = serde_json::from_slice(&body).unwrap_or_default();
                return unprocessable("missing", &["body", "action"], "Field required", &input);
            }
        },
        Err(response) => return *response,
    };
    answer(stateless.act(Request::Step { action }).await)
}

/// `GET /state`.
pub(super) async fn state(State(stateless): State<Stateless>) -> Response {
    answer(stateless.act(Request::State).await)
}

impl Stateless {
    /// One request to a fresh environment; `None` if the front is closing.
    async fn act(&self, request: Request) -> Option<Outcome> {
        let _permit = self.permits.acquire().await.ok()?;
        let hold = self.hub.open_uncounted();
        match poll_fn(|cx| hold.poll_answer(cx)).await? {
            Outcome::Opened => {}
            outcome => return Some(outcome),
        }
        hold.ask(request);
        poll_fn(|cx| hold.poll_answer(cx)).await
    }
}

/// The body's fields, or the answer to a body that is no object.
fn fields(body: &Bytes) -> Result<BTreeMap<String, &RawValue>, Box<Response>> {
    serde_json::from_slice(body).map_err(|error| {
        Box::new(if error.is_data() {
            let message = "Input should be a valid dictionary or object to extract fields from";
            let input = serde_json::from_slice(body).unwrap_or_default();
            unprocessable("model_attributes_type", &["body"], message, &input)
        } else {
            let message = format!("JSON decode error: {error}");
            unprocessable("json_invalid", &["body"], &message, &Value::Null)
        })
    })
}

/// Over HTTP, unlike over `/ws`, OpenEnv looks at these two.
fn check_reset(fields: &BTreeMap<String, &RawValue>) -> Result<(), Box<Response>> {
    let invalid = |kind, field, message, value: &RawValue| {
        Err(Box::new(unprocessable(kind, &["body", field], message, &self::value(value))))
    };
    if let Some(seed) = fields.get("seed") {
        match value(seed) {
            Value::Null => {}
            Value::Number(number) if number.is_u64() => {}
            Value::Number(number) if number.is_i64() => {
                let message = "Input should be greater than or equal to 0";
                return invalid("greater_than_equal", "seed", message, seed);
            }
            _ => return invalid("int_type", "seed", "Input should be a valid integer", seed),
        }
    }
    if let Some(id) = fields.get("episode_id") {
        match value(id) {
            Value::Null => {}
            Value::String(text) if text.chars().count() <= EPISODE_ID_MAX => {}
            Value::String(_) => {
                let message = "String should have at most 255 characters";
                return invalid("string_too_long", "episode_id", message, id);
            }
            _ => return invalid("string_type", "episode_id", "Input should be a valid string", id),
        }
    }
    Ok(())
}

fn value(raw: &RawValue) -> Value {
    serde_json::from_str(raw.get()).unwrap_or_default()
}

fn answer(outcome: Option<Outcome>) -> Response {
    match outcome {
        Some(Outcome::Reset(observed) | Outcome::Stepped(observed)) => {
            json(StatusCode::OK, observation(&observed))
        }
        Some(Outcome::State(state)) => json(StatusCode::OK, state),
        Some(Outcome::Failed(failure))
            if failure.kind == FailureKind::Invalid && !failure.details.is_empty() =>
        {
            let body = [&b"{\"detail\":"[..], &failure.details, b"}"].concat();
            json(StatusCode::UNPROCESSABLE_ENTITY, body)
        }
        Some(Outcome::Failed(failure))
            if matches!(failure.kind, FailureKind::Capacity | FailureKind::Factory) =>
        {
            detail(StatusCode::SERVICE_UNAVAILABLE, &failure.message)
        }
        Some(_) => plain(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error"),
        None => plain(StatusCode::SERVICE_UNAVAILABLE, "Shutting down"),
    }
}

/// The answer's body: as over `/ws`, but with the reward as a number and the metadata always there.
fn observation(observed: &Observed) -> Vec<u8> {
    let null = b"null";
    let reward = observed.reward.value.map_or(Value::Null, Value::from).to_string();
    let metadata: &[u8] = if observed.metadata.is_empty() { null } else { &observed.metadata };
    [
        &b"{\"observation\":"[..],
        &observed.observation,
        b",\"reward\":",
        reward.as_bytes(),
        b",\"done\":",
        if observed.ended.is_some() { b"true" } else { b"false" },
        b",\"metadata\":",
        metadata,
        b"}",
    ]
    .concat()
}
