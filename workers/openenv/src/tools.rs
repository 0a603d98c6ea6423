//! The tools of an environment, asked for before any episode.

use std::time::{Duration, Instant};

use bytes::Bytes;
use envmill_protocol::{
    Command, Failure, FailureKind, Generation, Outcome, Request, Retry, ServerId, SessionFate, Slot,
};
use envmill_workers::Worker as _;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{OpenEnvWorker, Options, OptionsError, Server};

/// How long it may take until the tools are known, with a session to be made first.
const DEADLINE: Duration = Duration::from_mins(2);

/// How long a server has for its own goodbye, so that the session's place is free again.
const GOODBYE: Duration = Duration::from_secs(5);

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
        /// The server.
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
    let mut asker = Asker {
        worker: OpenEnvWorker::new(options)?,
        generation: Generation(0),
        until: Instant::now() + DEADLINE,
    };
    loop {
        let answer = asker.session();
        asker.goodbye();
        match answer {
            Ok(tools) => return Ok(tools),
            Err(failure)
                if asker.until <= Instant::now() || failure.kind.retry(RETRIED) == Retry::Never =>
            {
                return Err(ToolsError::Session { url: server.url, failure });
            }
            Err(failure) => {
                tracing::info!(%failure, "the tools are asked for again");
                asker.pause(Duration::from_millis(250));
            }
        }
    }
}

const RETRIED: envmill_protocol::Phase = envmill_protocol::Phase::FirstReset;

struct Asker {
    worker: OpenEnvWorker,
    generation: Generation,
    until: Instant,
}

impl Asker {
    fn session(&mut self) -> Result<Vec<Tool>, Failure> {
        self.ask(Request::Open { server: ServerId(0) })?;
        let call = br#"{"jsonrpc":"2.0","id":"tools","method":"tools/list"}"#;
        let listed = match self.ask(Request::ToolCall { request: Bytes::from_static(call) }) {
            Ok(Outcome::ToolResult(response)) => parse(&response),
            Ok(_) => Vec::new(),
            Err(failure) if failure.session == SessionFate::Kept => Vec::new(),
            Err(failure) => return Err(failure),
        };
        if listed.is_empty() {
            return Ok(listed);
        }
        let action = Bytes::from_static(br#"{"type":"list_tools"}"#);
        Ok(match self.ask(Request::Step { action }) {
            Ok(Outcome::Stepped(observed)) => {
                Some(parse(&observed.observation)).filter(|tools| !tools.is_empty())
            }
            _ => None,
        }
        .unwrap_or(listed))
    }

    fn ask(&mut self, request: Request) -> Result<Outcome, Failure> {
        self.generation = self.generation.next();
        let (slot, generation) = (Slot(0), self.generation);
        self.worker.submit(&mut vec![Command { slot, generation, request }]);
        let mut events = Vec::new();
        loop {
            self.worker.completions(&mut events, Duration::from_millis(100));
            if let Some(event) = events.drain(..).find(|event| event.generation == generation) {
                return match event.outcome {
                    Outcome::Failed(failure) => Err(failure),
                    outcome => Ok(outcome),
                };
            }
            if self.until <= Instant::now() {
                let kind = FailureKind::Deadline(RETRIED);
                return Err(Failure::lost(kind, format!("no answer within {DEADLINE:?}")));
            }
        }
    }

    fn goodbye(&mut self) {
        self.generation = self.generation.next();
        let (slot, generation, request) = (Slot(0), self.generation, Request::Close);
        self.worker.submit(&mut vec![Command { slot, generation, request }]);
        let until = Instant::now() + GOODBYE;
        let mut events = Vec::new();
        while self.worker.metrics().sockets_closing > 0 && Instant::now() < until {
            self.worker.completions(&mut events, Duration::from_millis(100));
        }
    }

    fn pause(&mut self, pause: Duration) {
        let until = Instant::now() + pause;
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            self.worker.completions(&mut Vec::new(), left);
        }
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
