//! `/reset`, `/step` and `/state`: each call makes an environment, acts once and throws it away. Good
//! for a look with curl; useless for episodes, as in OpenEnv itself.

use axum::{
    extract::State,
    http::{HeaderMap, StatusCode},
    response::Response,
};
use bytes::Bytes;
use envmill_protocol::{FailureKind, Observed, Outcome, Request};
use serde_json::{Value, value::RawValue};

use super::{Routes, answer::json, body::Fields, throwaway};

/// The longest episode id that a reset may give, and the longest request id of a step, in characters.
const ID_MAX: usize = 255;

/// `POST /reset`: the body is the reset parameters, or empty.
pub(super) async fn reset(
    State(routes): State<Routes>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if !body.is_empty()
        && let Err(refusal) =
            Fields::read(&headers, &body, &["seed", "episode_id"]).and_then(check_reset)
    {
        return *refusal;
    }
    answer(routes.ask_fresh(Request::Reset { parameters: body }).await)
}

/// `POST /step`: the body is `{"action": {…}}`.
pub(super) async fn step(
    State(routes): State<Routes>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let names = ["action", "timeout_s", "request_id"];
    match Fields::read(&headers, &body, &names).and_then(check_step) {
        Ok(action) => {
            let action = body.slice_ref(action.as_bytes());
            answer(routes.ask_fresh(Request::Step { action }).await)
        }
        Err(refusal) => *refusal,
    }
}

/// `GET /state`.
pub(super) async fn state(State(routes): State<Routes>) -> Response {
    answer(routes.ask_fresh(Request::State).await)
}

/// Over HTTP, unlike over `/ws`, OpenEnv looks at these two.
fn check_reset(mut fields: Fields<'_>) -> Result<(), Box<Response>> {
    if let Some(seed) = given(&fields, "seed")
        && let Some(number) = fields.integer_in("seed", seed)
        && number.starts_with('-')
    {
        let message = "Input should be greater than or equal to 0";
        fields.out_of_bounds("greater_than_equal", "seed", message, seed.get(), r#"{"ge":0}"#);
    }
    check_id(&mut fields, "episode_id");
    fields.check()
}

/// The action, and what else OpenEnv looks at. (A step's deadline is its own business there too: it
/// is passed on to environments that want it, and no worker does.)
fn check_step<'a>(mut fields: Fields<'a>) -> Result<&'a str, Box<Response>> {
    let action = fields.required("action").map(RawValue::get);
    if let Some(action) = action
        && !action.starts_with('{')
    {
        fields.wrong("dict_type", "action", "Input should be a valid dictionary", action);
    }
    if let Some(timeout) = given(&fields, "timeout_s")
        && let Ok(seconds) = serde_json::from_str::<f64>(timeout.get())
        && seconds <= 0.0
    {
        let message = "Input should be greater than 0";
        fields.out_of_bounds("greater_than", "timeout_s", message, timeout.get(), r#"{"gt":0.0}"#);
    }
    check_id(&mut fields, "request_id");
    fields.check()?;
    Ok(action.unwrap_or("{}"))
}

fn check_id(fields: &mut Fields<'_>, name: &str) {
    let Some(id) = given(fields, name) else { return };
    match serde_json::from_str(id.get()) {
        Ok(Value::String(text)) if text.chars().count() <= ID_MAX => {}
        Ok(Value::String(_)) => {
            let message = "String should have at most 255 characters";
            let bound = r#"{"max_length":255}"#;
            fields.out_of_bounds("string_too_long", name, message, id.get(), bound);
        }
        _ => fields.wrong("string_type", name, "Input should be a valid string", id.get()),
    }
}

/// The value of a field that is there and not `null`.
fn given<'a>(fields: &Fields<'a>, name: &str) -> Option<&'a RawValue> {
    fields.get(name).filter(|value| value.get() != "null")
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
        outcome => throwaway::failed(outcome.as_ref()),
    }
}

/// The answer's body: as over `/ws`, but with the reward as a number and the metadata always there.
fn observation(observed: &Observed) -> Vec<u8> {
    let null = b"null";
    let reward = observed.reward.value.map_or(Value::Null, Value::from).to_string();
    let metadata: &[u8] = match &observed.metadata[..] {
        b"" | b"{}" => null,
        metadata => metadata,
    };
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
