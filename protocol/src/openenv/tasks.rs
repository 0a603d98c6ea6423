//! OpenEnv's Task API, as the OpenEnv front asks it of a worker.
//!
//! The API is HTTP, and an environment answers it from methods of its own. At the worker seam it is a
//! tool call of a session that was opened for it: the request is a JSON-RPC 2.0 request whose method
//! is one of [`TaskMethod`]'s names, and the answer is the text of a JSON-RPC 2.0 response.
//!
//! | method | `params` | `result` |
//! |---|---|---|
//! | `envmill/tasks/list_splits` | `{}` | an array: names, or objects with `name` and `type` |
//! | `envmill/tasks/list_tasks` | `{"split":S}` | an array of tasks |
//! | `envmill/tasks/num_tasks` | `{"split":S}` | a number |
//! | `envmill/tasks/get_task` | `{"split":S,"index":I}` | a task |
//! | `envmill/tasks/get_task_range` | `{"split":S,"start":I,"stop":I}` | an array of tasks |
//!
//! `S` is a string and `I` an integer of any size, in a range also `null`. A task is any JSON value.
//! Of the errors four are told apart: code -32601 says that the environment does not support the
//! method, code -32602 with the message [`INVALID_INDEX`] that there is no such task, code -32001 that
//! the answer is too large for whoever passes it on, and anything else that the environment failed.
//!
//! Methods that begin with [`OWN_METHODS`] are Envmill's own. The front never passes one on that a
//! client has sent.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::json_text;

/// What the methods between the front and a worker begin with.
pub const OWN_METHODS: &str = "envmill/";

/// The message of the error, code -32602, that says that there is no such task (where Python raises
/// `IndexError`).
pub const INVALID_INDEX: &str = "Invalid task index";

/// The code of the error that says that an answer is too large; the range that the protocol leaves to servers.
const TOO_LARGE: i64 = -32_001;

/// A question of the Task API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TaskMethod {
    /// Which splits there are.
    ListSplits,
    /// The tasks of a split.
    ListTasks,
    /// How many tasks a split has.
    NumTasks,
    /// One task.
    GetTask,
    /// The tasks from one index up to another.
    GetTaskRange,
}

impl TaskMethod {
    /// Every method.
    pub const ALL: [Self; 5] =
        [Self::ListSplits, Self::ListTasks, Self::NumTasks, Self::GetTask, Self::GetTaskRange];

    /// The method of the JSON-RPC request.
    #[must_use]
    pub const fn method(self) -> &'static str {
        match self {
            Self::ListSplits => "envmill/tasks/list_splits",
            Self::ListTasks => "envmill/tasks/list_tasks",
            Self::NumTasks => "envmill/tasks/num_tasks",
            Self::GetTask => "envmill/tasks/get_task",
            Self::GetTaskRange => "envmill/tasks/get_task_range",
        }
    }

    /// The method of a Python environment that answers it.
    #[must_use]
    pub const fn python_name(self) -> &'static str {
        match self {
            Self::ListSplits => "list_splits",
            Self::ListTasks => "list_tasks",
            Self::NumTasks => "num_tasks",
            Self::GetTask => "get_task",
            Self::GetTaskRange => "get_task_range",
        }
    }

    /// What a JSON-RPC request asks, if its method is one of these.
    #[must_use]
    pub fn from_method(method: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.method() == method)
    }

    /// The JSON-RPC request that asks it; `params` is the text of one JSON object. Its id is 1.
    #[must_use]
    pub fn request(self, params: &str) -> Bytes {
        let method = self.method();
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}"#).into()
    }
}

/// Why a question of the Task API has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TaskError {
    /// The environment does not know the question.
    #[error("not supported")]
    Unsupported,
    /// There is no such task.
    #[error("{INVALID_INDEX}")]
    InvalidIndex,
    /// The answer is larger than one may be; how large that is. Asking for fewer tasks may help.
    #[error("{0}")]
    TooLarge(String),
    /// The environment failed, or its answer is no JSON-RPC response; why.
    #[error("{0}")]
    Failed(String),
}

#[derive(Deserialize)]
struct Response<'a> {
    #[serde(borrow, default, deserialize_with = "json_text::present")]
    result: Option<&'a RawValue>,
    error: Option<RpcError>,
}

#[derive(Deserialize)]
struct RpcError {
    code: i64,
    #[serde(default)]
    message: String,
}

/// What a worker's answer to [`TaskMethod::request`] says: the text of the result, a slice of
/// `response`.
///
/// # Errors
///
/// What a client should be told instead; a response that is none is [`TaskError::Failed`].
pub fn task_result(response: &Bytes) -> Result<Bytes, TaskError> {
    let parsed: Response<'_> = serde_json::from_slice(response)
        .map_err(|error| TaskError::Failed(format!("no JSON-RPC response: {error}")))?;
    match (parsed.error, parsed.result) {
        (Some(error), _) => Err(match error.code {
            -32_601 => TaskError::Unsupported,
            -32_602 if error.message == INVALID_INDEX => TaskError::InvalidIndex,
            TOO_LARGE => TaskError::TooLarge(error.message),
            _ => TaskError::Failed(error.message),
        }),
        (None, Some(result)) => Ok(response.slice_ref(result.get().as_bytes())),
        (None, None) => Err(TaskError::Failed("neither a result nor an error".into())),
    }
}

/// A worker's answer to [`TaskMethod::request`]; the text of a result, or why there is none.
#[must_use]
pub fn task_response(result: Result<&[u8], &TaskError>) -> Bytes {
    let mut response = br#"{"jsonrpc":"2.0","id":1,"#.to_vec();
    let (code, message) = match result {
        Ok(result) => {
            response.extend_from_slice(br#""result":"#);
            response.extend_from_slice(result);
            response.push(b'}');
            return response.into();
        }
        Err(TaskError::Unsupported) => (-32_601, "Method not found"),
        Err(TaskError::InvalidIndex) => (-32_602, INVALID_INDEX),
        Err(TaskError::TooLarge(message)) => (TOO_LARGE, message.as_str()),
        Err(TaskError::Failed(message)) => (-32_603, message.as_str()),
    };
    let message = serde_json::Value::from(message);
    let error = format!(r#""error":{{"code":{code},"message":{message}}}}}"#);
    response.extend_from_slice(error.as_bytes());
    response.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn responses_say_what_is_read_from_them() {
        let told = |result: Result<&[u8], &TaskError>| task_result(&task_response(result));
        assert_eq!(told(Ok(b"[ 1 ]")).unwrap(), "[ 1 ]");
        for error in [
            TaskError::Unsupported,
            TaskError::InvalidIndex,
            TaskError::TooLarge("more than 5 bytes".into()),
            TaskError::Failed("\"no\"".into()),
        ] {
            assert_eq!(told(Err(&error)), Err(error));
        }
    }

    fn result(response: &'static str) -> Result<Bytes, TaskError> {
        task_result(&Bytes::from_static(response.as_bytes()))
    }

    #[test]
    fn every_method_is_found_by_its_name() {
        for method in TaskMethod::ALL {
            assert!(method.method().starts_with(OWN_METHODS));
            assert!(method.method().ends_with(method.python_name()));
            assert_eq!(TaskMethod::from_method(method.method()), Some(method));
        }
        assert_eq!(TaskMethod::from_method("envmill/tasks/"), None);
        assert_eq!(
            TaskMethod::GetTask.request(r#"{"split":"a","index":0}"#),
            r#"{"jsonrpc":"2.0","id":1,"method":"envmill/tasks/get_task","params":{"split":"a","index":0}}"#
        );
    }

    #[test]
    fn answers_are_results_or_one_of_four_errors() {
        assert_eq!(result(r#"{"id":1,"result":[ 1 ]}"#).unwrap(), "[ 1 ]");
        assert_eq!(result(r#"{"result":null,"error":null}"#).unwrap(), "null");
        for (response, error) in [
            (r#"{"error":{"code":-32601,"message":"m"}}"#, TaskError::Unsupported),
            (
                r#"{"error":{"code":-32602,"message":"Invalid task index","data":null}}"#,
                TaskError::InvalidIndex,
            ),
            (r#"{"error":{"code":-32602,"message":"m"}}"#, TaskError::Failed("m".into())),
            (r#"{"error":{"code":-32001,"message":"m"}}"#, TaskError::TooLarge("m".into())),
            (r#"{"error":{"code":-32603}}"#, TaskError::Failed(String::new())),
        ] {
            assert_eq!(result(response), Err(error), "{response}");
        }
        for nonsense in ["", "{}", "[1]", "5", r#"{"error":5}"#, r#"{"result":1,"result":2}"#] {
            assert!(matches!(result(nonsense), Err(TaskError::Failed(_))), "{nonsense}");
        }
    }
}
