//! The tools of an environment, asked for before any episode.

use std::time::{Duration, Instant};

use bytes::Bytes;
use envmill_protocol::{Failure, Outcome, Phase, Request, Retry, SessionFate};
use envmill_workers::{Asker, Worker};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{OpenEnvWorker, Options, OptionsError, Server};

/// How long it may take until the tools are known, with a session to be made first.
const DEADLINE: Duration = Duration::from_mins(2);

/// How long a server has for its own goodbye, so that the session's place is free again.
const GOODBYE: Duration = Duration::from_secs(5);

/// How long it is until a server that has no session to give is asked again.
const PAUSE: Duration = Duration::from_millis(250);

/// One tool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tool {
    /// Its name.
    pub name: String,
    /// The JSON Schema of its arguments: the text of one JSON value.
    pub input_schema: String,
}

/// The tools are not known.
#[derive(Debug, thiserror::Error)]
pub enum ToolsError {
    /// The server's URL or headers, or the file of authorities, cannot be used.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// No session answered.
    #[error("{url} does not tell its tools: {failure}")]
    Session {
        /// The server, or the environment where there is none.
        url: String,
        /// What came instead, the last time.
        failure: Failure,
    },
}

/// Asks a server for its tools, on a session of its own that is closed again, waiting for the answer
/// for at most two minutes. A server that is full or whose environment cannot be made right now is
/// asked again until then. An environment without tools has none: an empty list.
///
/// The `list_tools` action is believed first, since it lists what the `call_tool` action can call;
/// an environment that does not take it is asked by `tools/list`.
///
/// # Errors
///
/// When no session answers in time.
pub fn tools(server: &Server, options: &Options) -> Result<Vec<Tool>, ToolsError> {
    // The sessions to attach to are for episodes.
    let server = Server { attach: Vec::new(), ..server.clone() };
    let options = Options { servers: vec![server.clone()], ..options.clone() };
    let mut asker = Asker::new(OpenEnvWorker::new(options)?, DEADLINE);
    loop {
        let answer = list_tools(&mut asker);
        goodbye(&mut asker);
        match answer {
            Ok(tools) => return Ok(tools),
            Err(failure)
                if asker.is_late() || failure.kind.retry(Phase::FirstReset) == Retry::Never =>
            {
                return Err(ToolsError::Session { url: server.url, failure });
            }
            Err(failure) => {
                tracing::info!(%failure, "the tools are asked for again");
                pause(asker.worker(), PAUSE);
            }
        }
    }
}

/// Asks a worker's first server for its tools, as [`tools`] does, on a session that is opened for it and
/// left open.
///
/// # Errors
///
/// When no session answers.
pub fn list_tools<W: Worker>(asker: &mut Asker<W>) -> Result<Vec<Tool>, Failure> {
    asker.open()?;
    let call = br#"{"jsonrpc":"2.0","id":"tools","method":"tools/list"}"#;
    let listed = match asker.ask(Request::ToolCall { request: Bytes::from_static(call) }) {
        Ok(Outcome::ToolResult(response)) => parse(&response),
        Ok(_) => Vec::new(),
        Err(failure) if failure.session == SessionFate::Kept => Vec::new(),
        Err(failure) => return Err(failure),
    };
    if listed.is_empty() {
        return Ok(listed);
    }
    let action = Bytes::from_static(br#"{"type":"list_tools"}"#);
    Ok(match asker.ask(Request::Step { action }) {
        Ok(Outcome::Stepped(observed)) => {
            Some(parse(&observed.observation)).filter(|tools| !tools.is_empty())
        }
        _ => None,
    }
    .unwrap_or(listed))
}

/// Closes the session, so that its place is free again.
fn goodbye(asker: &mut Asker<OpenEnvWorker>) {
    asker.close();
    let until = Instant::now() + GOODBYE;
    let mut events = Vec::new();
    while asker.worker().metrics().sockets_closing > 0 && Instant::now() < until {
        asker.worker().completions(&mut events, Duration::from_millis(100));
    }
}

/// Lets the worker do what it has to do beside, for so long.
fn pause(worker: &mut OpenEnvWorker, pause: Duration) {
    let until = Instant::now() + pause;
    while let Some(left) = until.checked_duration_since(Instant::now()) {
        worker.completions(&mut Vec::new(), left);
    }
}

/// The tools in an answer, wherever it comes from: a JSON-RPC response or an observation, each with
/// its own spelling of the schema's key.
fn parse(answer: &[u8]) -> Vec<Tool> {
    #[derive(Deserialize)]
    struct Answer {
        result: Option<List>,
        tools: Option<Vec<Listed>>,
    }
    #[derive(Deserialize)]
    struct List {
        tools: Vec<Listed>,
    }
    #[derive(Deserialize)]
    struct Listed {
        name: String,
        #[serde(alias = "inputSchema")]
        input_schema: Option<Box<RawValue>>,
    }
    let Ok(answer) = serde_json::from_slice::<Answer>(answer) else { return Vec::new() };
    let listed = answer.tools.or(answer.result.map(|list| list.tools)).unwrap_or_default();
    let schema = |schema: Option<Box<RawValue>>| {
        schema.map_or_else(|| "{}".to_owned(), |schema| schema.get().to_owned())
    };
    listed
        .into_iter()
        .map(|tool| Tool { name: tool.name, input_schema: schema(tool.input_schema) })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tools_are_found_in_either_answer() {
        let tool = Tool { name: "add".into(), input_schema: r#"{"type":"object"}"#.into() };
        for answer in [
            r#"{"id":1,"result":{"tools":[{"name":"add","inputSchema":{"type":"object"}}]}}"#,
            r#"{"tools":[{"name":"add","description":"","input_schema":{"type":"object"}}]}"#,
        ] {
            assert_eq!(parse(answer.as_bytes()), std::slice::from_ref(&tool));
        }
        for nothing in ["", "[]", r#"{"tools":[]}"#, r#"{"result":null}"#, r#"{"tools":3}"#] {
            assert_eq!(parse(nothing.as_bytes()), []);
        }
    }
}
