//! OpenEnv's Task API. Each question makes an environment, asks it once and throws it away.

use axum::{
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    response::Response,
};
use bytes::Bytes;
use envmill_protocol::{
    FailureKind, Outcome, Request,
    openenv::tasks::{INVALID_INDEX, TaskError, TaskMethod, task_result},
};
use serde_json::{Value, value::RawValue};

use super::{
    Routes,
    answer::{detail, json, plain},
    body::Fields,
    throwaway,
};

pub(super) async fn list_environments(State(routes): State<Routes>) -> Response {
    json(StatusCode::OK, format!("[{}]", quoted(routes.env_name())))
}

pub(super) async fn list_splits(
    State(routes): State<Routes>,
    Path(env_name): Path<String>,
) -> Response {
    routes
        .tasks(&env_name, TaskMethod::ListSplits, "{}")
        .await
        .and_then(|splits| normalized(&splits).ok_or_else(failed))
        .map_or_else(|refusal| *refusal, |splits| json(StatusCode::OK, splits))
}

pub(super) async fn list_tasks(
    State(routes): State<Routes>,
    Path(env_name): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let tail = format!(r#","env_name":{}"#, quoted(routes.env_name()));
    routes.question(&env_name, TaskMethod::ListTasks, &headers, &body, "tasks", &tail).await
}

pub(super) async fn num_tasks(
    State(routes): State<Routes>,
    Path(env_name): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    routes.question(&env_name, TaskMethod::NumTasks, &headers, &body, "num_tasks", "").await
}

pub(super) async fn get_task(
    State(routes): State<Routes>,
    Path(env_name): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    routes.question(&env_name, TaskMethod::GetTask, &headers, &body, "task", "").await
}

pub(super) async fn get_task_range(
    State(routes): State<Routes>,
    Path(env_name): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    routes.question(&env_name, TaskMethod::GetTaskRange, &headers, &body, "tasks", "").await
}

impl Routes {
    fn env_name(&self) -> &str {
        self.surroundings.options.description.env_name()
    }

    /// A question with a body, whose result is answered under `key`; `tail` follows it.
    async fn question(
        &self,
        env_name: &str,
        method: TaskMethod,
        headers: &HeaderMap,
        body: &[u8],
        key: &str,
        tail: &str,
    ) -> Response {
        // The body comes first: what is wrong with it is told about unknown environments too.
        let params = match params(method, headers, body) {
            Ok(params) => params,
            Err(refusal) => return *refusal,
        };
        match self.tasks(env_name, method, &params).await {
            Ok(result) => {
                let head = format!(r#"{{"{key}":"#);
                let parts = [head.as_bytes(), &result, tail.as_bytes(), b"}"];
                json(StatusCode::OK, parts.concat())
            }
            Err(refusal) => *refusal,
        }
    }

    /// The result of a question, as JSON text, or what to answer instead.
    async fn tasks(
        &self,
        env_name: &str,
        method: TaskMethod,
        params: &str,
    ) -> Result<Bytes, Box<Response>> {
        if env_name.to_lowercase() != self.env_name().to_lowercase() {
            let message = format!("unknown environment {}", python_repr(env_name));
            return Err(Box::new(detail(StatusCode::NOT_FOUND, &message)));
        }
        let request = Request::ToolCall { request: method.request(params) };
        let error = match self.ask_fresh(request).await {
            Some(Outcome::ToolResult(response)) => match task_result(&response) {
                Ok(result) => return Ok(result),
                Err(error) => error,
            },
            // What a worker makes of -32601 that its own server answered.
            Some(Outcome::Failed(failure)) if failure.kind == FailureKind::Refused => {
                TaskError::Unsupported
            }
            Some(Outcome::Failed(failure)) if failure.kind == FailureKind::TooLarge => {
                TaskError::TooLarge(failure.message)
            }
            outcome => return Err(Box::new(throwaway::failed(outcome.as_ref()))),
        };
        Err(match error {
            TaskError::Unsupported => {
                let name = method.python_name();
                let message = format!("{name} is not supported for this environment");
                Box::new(detail(StatusCode::NOT_IMPLEMENTED, &message))
            }
            TaskError::InvalidIndex => Box::new(detail(StatusCode::BAD_REQUEST, INVALID_INDEX)),
            // A stock server has no such limit, and so no word for it.
            TaskError::TooLarge(message) => {
                Box::new(detail(StatusCode::PAYLOAD_TOO_LARGE, &message))
            }
            TaskError::Failed(_) => failed(),
        })
    }
}

fn failed() -> Box<Response> {
    Box::new(plain(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error"))
}

/// The parameters that a body asks for, as JSON.
fn params(method: TaskMethod, headers: &HeaderMap, body: &[u8]) -> Result<String, Box<Response>> {
    let names: &[&str] = match method {
        TaskMethod::ListSplits | TaskMethod::ListTasks | TaskMethod::NumTasks => &["split"],
        TaskMethod::GetTask => &["split", "index"],
        TaskMethod::GetTaskRange => &["split", "start", "stop"],
    };
    let mut fields = Fields::read(headers, body, names)?;
    let split = fields.string("split").unwrap_or_default();
    let params = match method {
        TaskMethod::ListSplits | TaskMethod::ListTasks | TaskMethod::NumTasks => {
            format!(r#"{{"split":{split}}}"#)
        }
        TaskMethod::GetTask => {
            let index = fields.integer("index").unwrap_or_default();
            format!(r#"{{"split":{split},"index":{index}}}"#)
        }
        TaskMethod::GetTaskRange => {
            let start = fields.optional_integer("start").unwrap_or_default();
            let stop = fields.optional_integer("stop").unwrap_or_default();
            format!(r#"{{"split":{split},"start":{start},"stop":{stop}}}"#)
        }
    };
    fields.no_others();
    fields.check()?;
    Ok(params)
}

/// Splits as objects with a name and a type; `None` if they are no array.
fn normalized(splits: &[u8]) -> Option<Vec<u8>> {
    let splits: Vec<&RawValue> = serde_json::from_slice(splits).ok()?;
    let mut out = vec![b'['];
    for (index, split) in splits.into_iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        let text = split.get();
        if text.starts_with('{') {
            out.extend_from_slice(text.as_bytes());
            continue;
        }
        let name: Value = serde_json::from_str(text).ok()?;
        let (name, kind) = match name {
            Value::String(name) => {
                let known = ["train", "validation", "test"].contains(&name.as_str());
                let kind = if known { name.clone() } else { "validation".into() };
                (name, kind)
            }
            _ => (text.to_owned(), "validation".into()),
        };
        let split = format!(r#"{{"name":{},"type":{}}}"#, quoted(&name), quoted(&kind));
        out.extend_from_slice(split.as_bytes());
    }
    out.push(b']');
    Some(out)
}

fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// A string as Python's `repr` writes it.
fn python_repr(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut out = String::with_capacity(text.len() + 2);
    out.push(quote);
    for character in text.chars() {
        match character {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            character if character == quote => {
                out.push('\\');
                out.push(character);
            }
            character if character.is_control() => {
                out.push_str(&format!("\\x{:02x}", u32::from(character)));
            }
            character => out.push(character),
        }
    }
    out.push(quote);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_shown_as_python_shows_them() {
        for (name, shown) in [
            ("nope", "'nope'"),
            ("it's", "\"it's\""),
            ("a\"'b", "'a\"\\'b'"),
            ("a\\b\né\x07\u{85}", "'a\\\\b\\né\\x07\\x85'"),
        ] {
            assert_eq!(python_repr(name), shown);
        }
    }

    #[test]
    fn splits_have_names_and_types() {
        let splits = normalized(br#"["train", "x", {"name":"y", "type":"test"}, 7]"#).unwrap();
        assert_eq!(
            String::from_utf8(splits).unwrap(),
            r#"[{"name":"train","type":"train"},{"name":"x","type":"validation"},{"name":"y", "type":"test"},{"name":"7","type":"validation"}]"#
        );
        assert_eq!(normalized(b"5"), None);
        assert_eq!(normalized(b"[]").unwrap(), b"[]");
    }
}
