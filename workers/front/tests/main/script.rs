//! A worker that plays `testing/python/servers/front_env.py`, answer for answer.

use std::{
    collections::HashMap,
    mem,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use envmill_protocol::{
    Command, Event, Failure, FailureKind, Observed, Outcome, Request, Reward, Slot,
    openenv::{
        server::decode_rpc,
        tasks::{INVALID_INDEX, TaskMethod},
    },
};
use envmill_workers::{Wake, Waker, Worker};
use serde_json::{Value, json};

/// What a test may set and see.
#[derive(Debug, Default)]
pub(crate) struct Stage {
    /// Whether constructing an environment fails.
    pub(crate) factory_fails: AtomicBool,
    /// How many sessions the worker has room for; 0 for any number.
    pub(crate) sessions_max: AtomicUsize,
    /// The environment has neither tools nor tasks.
    pub(crate) bare: AtomicBool,
    /// The result of `tools/list`.
    pub(crate) tools: Mutex<String>,
    /// Sessions that are open.
    pub(crate) open: AtomicUsize,
    /// Every tool call that came, as its text.
    pub(crate) calls: Mutex<Vec<String>>,
    /// Sessions to be lost.
    pub(crate) lose_all: AtomicBool,
}

#[derive(Debug, Default)]
struct Session {
    episode_id: Value,
    calls: u32,
    /// A command of which the answer is under way.
    busy: bool,
    generation: envmill_protocol::Generation,
}

pub(crate) struct Script {
    stage: Arc<Stage>,
    sessions: HashMap<Slot, Session>,
    ready: Vec<Event>,
    later: Vec<(Instant, Event)>,
}

impl Script {
    pub(crate) fn new(stage: Arc<Stage>) -> Self {
        Self { stage, sessions: HashMap::new(), ready: Vec::new(), later: Vec::new() }
    }

    fn take(&mut self, command: Command) {
        let Command { slot, generation, request } = command;
        if let Request::Close = request {
            if self.sessions.remove(&slot).is_some() {
                self.stage.open.fetch_sub(1, Ordering::SeqCst);
            }
            self.later.retain(|(_, event)| event.slot != slot);
            self.ready.push(Event { slot, generation, outcome: Outcome::Closed });
            return;
        }
        let known = self.sessions.get_mut(&slot);
        let outcome = match (request, known) {
            (Request::Open { .. }, None) => self.open(slot, generation),
            (Request::Open { .. }, Some(_)) => panic!("{slot} is open"),
            (_, None) => Outcome::Failed(Failure::lost(FailureKind::Disconnected, "no session")),
            (request, Some(session)) => {
                assert!(!mem::replace(&mut session.busy, true), "one command at a time");
                session.generation = generation;
                if let Request::ToolCall { request } = &request {
                    let text = String::from_utf8(request.to_vec()).unwrap();
                    self.stage.calls.lock().unwrap().push(text);
                }
                let (outcome, delay) = act(session, &request, &self.stage);
                if let Some(delay) = delay {
                    let event = Event { slot, generation, outcome };
                    self.later.push((Instant::now() + delay, event));
                    return;
                }
                session.busy = false;
                outcome
            }
        };
        self.ready.push(Event { slot, generation, outcome });
    }

    fn open(&mut self, slot: Slot, generation: envmill_protocol::Generation) -> Outcome {
        let max = self.stage.sessions_max.load(Ordering::SeqCst);
        if self.stage.factory_fails.load(Ordering::SeqCst) {
            let mut failure = Failure::lost(FailureKind::Factory, "factory boom");
            failure.details = r#"{"factory_name":"FrontEnv"}"#.into();
            return Outcome::Failed(failure);
        }
        if max > 0 && self.sessions.len() >= max {
            return Outcome::Failed(Failure::lost(FailureKind::Capacity, "no room"));
        }
        self.stage.open.fetch_add(1, Ordering::SeqCst);
        self.sessions.insert(slot, Session { generation, ..Session::default() });
        Outcome::Opened
    }
}

impl Worker for Script {
    fn submit(&mut self, batch: &mut Vec<Command>) {
        for command in batch.drain(..) {
            self.take(command);
        }
    }

    fn completions(&mut self, events: &mut Vec<Event>, _: Duration) {
        events.append(&mut self.ready);
        let now = Instant::now();
        for (_, event) in self.later.extract_if(.., |(due, _)| *due <= now) {
            if let Some(session) = self.sessions.get_mut(&event.slot) {
                session.busy = false;
            }
            events.push(event);
        }
        if self.stage.lose_all.swap(false, Ordering::SeqCst) {
            for (slot, session) in self.sessions.drain() {
                self.stage.open.fetch_sub(1, Ordering::SeqCst);
                let failure = Failure::lost(FailureKind::Disconnected, "the process died");
                let generation = session.generation;
                events.push(Event { slot, generation, outcome: Outcome::Failed(failure) });
            }
        }
    }

    fn waker(&self) -> Waker {
        struct Nobody;

        impl Wake for Nobody {
            fn wake(&self) {}
        }

        Waker::new(Arc::new(Nobody))
    }
}

fn act(session: &mut Session, request: &Request, stage: &Stage) -> (Outcome, Option<Duration>) {
    let parse = |text: &[u8]| serde_json::from_slice::<Value>(text).unwrap_or_default();
    let outcome = match request {
        Request::Reset { parameters } => {
            session.episode_id = parse(parameters)["episode_id"].clone();
            Outcome::Reset(Observed {
                observation: r#"{"metadata":{"status":"ready"}}"#.into(),
                reward: Reward::from_raw("null".into()),
                metadata: r#"{"status":"ready"}"#.into(),
                ended: None,
            })
        }
        Request::Step { action } => {
            let action = parse(action);
            let name = action["tool_name"].as_str().unwrap_or_default();
            let (result, _) = tool(session, name, &action["arguments"]);
            let result = result.unwrap();
            let text = format!(
                r#"{{"metadata":{{}},"tool_name":"{name}","result":{result},"error":null}}"#
            );
            Outcome::Stepped(Observed {
                observation: text.into(),
                reward: Reward::from_raw("null".into()),
                ..Observed::default()
            })
        }
        Request::State => {
            let id = &session.episode_id;
            Outcome::State(format!(r#"{{"episode_id":{id},"step_count":0}}"#).into())
        }
        Request::ToolCall { request } => {
            let id = decode_rpc(request).unwrap().id;
            let id = id.as_str();
            let (answer, delay) = call(session, &parse(request), stage);
            let tail = match answer {
                Ok(result) => format!(r#""result":{result}"#),
                Err((code, message)) => {
                    let message = Value::from(message);
                    format!(r#""error":{{"code":{code},"message":{message},"data":null}}"#)
                }
            };
            let text = format!(r#"{{"jsonrpc":"2.0","id":{id},{tail}}}"#);
            return (Outcome::ToolResult(text.into()), delay);
        }
        Request::Open { .. } | Request::Close => unreachable!("treated before"),
    };
    (outcome, None)
}

type Told = Result<String, (i32, String)>;

fn call(session: &mut Session, request: &Value, stage: &Stage) -> (Told, Option<Duration>) {
    let method = request["method"].as_str().unwrap();
    let params = &request["params"];
    let bare = stage.bare.load(Ordering::SeqCst);
    let answer = match (method, TaskMethod::from_method(method)) {
        (_, Some(_)) if bare => Err((-32601, "no tasks".to_owned())),
        (_, Some(task)) => tasks(task, params),
        ("tools/list", _) if bare => Err((-32603, "Environment does not support MCP".into())),
        ("tools/list", _) => Ok(stage.tools.lock().unwrap().clone()),
        ("tools/call", _) => match params["name"].as_str() {
            None | Some("") => Err((-32602, "Missing 'name' in params".into())),
            Some(_) if bare => Err((-32603, "Environment does not support MCP".into())),
            Some(name) => return tool(session, name, &params["arguments"]),
        },
        (method, _) => Err((-32601, format!("Method not found: {method}"))),
    };
    (answer, None)
}

fn tool(session: &mut Session, name: &str, arguments: &Value) -> (Told, Option<Duration>) {
    let result = |value: &Value| {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let text = Value::from(text);
        Ok(format!(
            r#"{{"content":[{{"type":"text","text":{text},"annotations":null,"meta":null}}],"structured_content":{{"result":{value}}},"meta":{{"fastmcp":{{"wrap_result":true}}}},"data":{value},"is_error":false}}"#
        ))
    };
    let mut delay = None;
    let answer = match name {
        "add" => {
            let of = |name: &str| arguments[name].as_i64().unwrap();
            result(&json!(of("a") + of("b")))
        }
        "count" => {
            session.calls += 1;
            result(&json!(session.calls))
        }
        "slow" => {
            delay = Some(Duration::from_secs_f64(arguments["s"].as_f64().unwrap()));
            result(&json!("slow done"))
        }
        "boom" => Err((-32603, "Error calling tool 'boom': tool boom".to_owned())),
        name => Err((-32603, format!("Unknown tool: '{name}'"))),
    };
    (answer, delay)
}

fn tasks(method: TaskMethod, params: &Value) -> Told {
    let all: Vec<Value> =
        (0..3).map(|index| json!({ "id": index, "text": format!("tâsk {index}") })).collect();
    let tasks = match params["split"].as_str() {
        Some("boom") => return Err((-32603, "no tasks here".into())),
        Some("train") => all,
        _ => Vec::new(),
    };
    Ok(match method {
        TaskMethod::ListSplits => json!(["train", "other", { "name": "held", "type": "test" }, 7]),
        TaskMethod::ListTasks => json!(tasks),
        TaskMethod::NumTasks => json!(tasks.len()),
        TaskMethod::GetTask => {
            let count = tasks.len() as i64;
            let index = params["index"].as_i64().filter(|index| (-count..count).contains(index));
            let Some(index) = index else { return Err((-32602, INVALID_INDEX.into())) };
            tasks[index.rem_euclid(count) as usize].clone()
        }
        TaskMethod::GetTaskRange => return Err((-32601, "not here".into())),
    }
    .to_string())
}
