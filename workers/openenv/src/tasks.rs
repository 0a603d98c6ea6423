//! The tasks that a server says it has, over its Task API.

use std::{collections::HashMap, ops::Range};

use bytes::Bytes;
use envmill_protocol::openenv::tasks::{TaskError, TaskMethod};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{DescribeError, Options, Server, describe::Asker};

/// Where environments are listed.
const LIST: &str = "/list_environments";

/// Asks a server how many tasks a split of its environment has, waiting for the answer. An episode
/// plays one of them by `split` and `index` among its reset parameters.
///
/// The server builds one environment to answer, which is why this is asked once a job and only where
/// a split was named.
///
/// # Errors
///
/// As [`describe`](crate::describe()); a server without the Task API (OpenEnv before 0.4.1, or an
/// environment without tasks) answers 404, 405 or 501, and one without this split as its environment
/// likes.
pub fn num_tasks(server: &Server, options: &Options, split: &str) -> Result<u64, DescribeError> {
    #[derive(Deserialize)]
    struct Answer {
        num_tasks: u64,
    }
    let asker = Asker::new(server, options)?;
    let environment = environment(&asker)?;
    let endpoint = format!("/{}/num_tasks", escaped(&environment));
    let question = serde_json::json!({ "split": split }).to_string();
    let body = without_api(asker.answer(&endpoint, Some(&question)))?;
    read::<Answer>(&asker, &endpoint, &body).map(|answer| answer.num_tasks)
}

/// Asks a server for the tasks of a split from one index up to another, waiting for the answer: what the
/// environment says of each, which is any JSON. `None` where it has no such list.
///
/// # Errors
///
/// As [`num_tasks`]; [`is_too_large`](DescribeError::is_too_large) tells where fewer may be asked for.
pub fn task_range(
    server: &Server,
    options: &Options,
    split: &str,
    range: Range<u64>,
) -> Result<Option<Vec<Box<RawValue>>>, DescribeError> {
    #[derive(Deserialize)]
    struct Answer {
        tasks: Vec<Box<RawValue>>,
    }
    let asker = Asker::new(server, options)?;
    let environment = environment(&asker)?;
    let endpoint = format!("/{}/task_range", escaped(&environment));
    let Range { start, end } = range;
    let question = serde_json::json!({"split": split, "start": start, "stop": end}).to_string();
    match asker.answer(&endpoint, Some(&question)) {
        Ok(body) => read::<Answer>(&asker, &endpoint, &body).map(|answer| Some(answer.tasks)),
        Err(DescribeError::Status { status: 404 | 405 | 501, .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The names of the environments that a server lists for its Task API, waiting for the answer.
///
/// # Errors
///
/// As [`num_tasks`].
pub fn environments(server: &Server, options: &Options) -> Result<Vec<String>, DescribeError> {
    list(&Asker::new(server, options)?)
}

/// Asks a server's Task API a question for its first environment, waiting for the answer: the text of
/// the result, as the worker seam has it ([`envmill_protocol::openenv::tasks`]).
///
/// # Errors
///
/// What a client should be told instead.
pub fn ask_tasks(
    server: &Server,
    options: &Options,
    method: TaskMethod,
    params: &str,
) -> Result<Bytes, TaskError> {
    let failed = |error: DescribeError| match error {
        DescribeError::Status { status: 404 | 405 | 501, .. } => TaskError::Unsupported,
        DescribeError::Status { status: 400, .. } => TaskError::InvalidIndex,
        error if error.is_too_large() => TaskError::TooLarge(error.to_string()),
        error => TaskError::Failed(error.to_string()),
    };
    let asker = Asker::new(server, options).map_err(failed)?;
    let environment = environment(&asker).map_err(failed)?;
    let (segment, key) = match method {
        TaskMethod::ListSplits => ("splits", None),
        TaskMethod::ListTasks => ("tasks", Some("tasks")),
        TaskMethod::NumTasks => ("num_tasks", Some("num_tasks")),
        TaskMethod::GetTask => ("task", Some("task")),
        TaskMethod::GetTaskRange => ("task_range", Some("tasks")),
    };
    let endpoint = format!("/{}/{segment}", escaped(&environment));
    // Splits are asked for by GET.
    let body = asker.answer(&endpoint, key.map(|_| params)).map_err(failed)?;
    let Some(key) = key else { return Ok(body) };
    let fields: HashMap<String, &RawValue> = read(&asker, &endpoint, &body).map_err(failed)?;
    match fields.get(key) {
        Some(result) => Ok(body.slice_ref(result.get().as_bytes())),
        None => Err(TaskError::Failed(format!("its answer has no `{key}`"))),
    }
}

/// The first environment of the list.
fn environment(asker: &Asker) -> Result<String, DescribeError> {
    list(asker)?.into_iter().next().ok_or_else(|| DescribeError::NotOpenEnv {
        url: asker.target.address.http(LIST),
        problem: "it names no environment".to_owned(),
    })
}

fn list(asker: &Asker) -> Result<Vec<String>, DescribeError> {
    read(asker, LIST, &without_api(asker.required(LIST))?)
}

fn read<'a, T: Deserialize<'a>>(
    asker: &Asker,
    endpoint: &str,
    body: &'a [u8],
) -> Result<T, DescribeError> {
    serde_json::from_slice(body).map_err(|error| DescribeError::NotOpenEnv {
        url: asker.target.address.http(endpoint),
        problem: format!("its answer is not as the Task API has it: {error}"),
    })
}

/// Says what it means where there is no Task API.
fn without_api<T>(answer: Result<T, DescribeError>) -> Result<T, DescribeError> {
    answer.map_err(|error| match error {
        DescribeError::Status { url, status: status @ (404 | 405 | 501), .. } => {
            let problem = "it has no tasks of its own; give them with --tasks FILE".into();
            DescribeError::Status { url, status, problem }
        }
        other => other,
    })
}

/// A name as one segment of a path.
fn escaped(name: &str) -> String {
    name.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::escaped;

    #[test]
    fn names_stay_one_segment() {
        assert_eq!(escaped("my env/2é"), "my%20env%2F2%C3%A9");
    }
}
