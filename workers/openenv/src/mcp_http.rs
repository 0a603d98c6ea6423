//! One session by HTTP requests, `POST /mcp`: a request out, its answer in, one at a time.
//!
//! A server of several processes keeps a table of sessions in each, and a connection leads to one of
//! them. So a session has one connection for its whole life. Servers end silent connections after
//! some seconds; then the next request makes a new one, and if that leads to a process which does not
//! know the session, another, up to [`RECONNECTS_MAX`] times: a request that was refused for the
//! session's name has done nothing.

use std::{
    fmt::Write as _,
    io::{self, ErrorKind},
    mem,
    sync::Arc,
};

use bytes::Bytes;
use envmill_protocol::{
    Event, Failure, FailureKind, Generation, Observed, Outcome, Request, SessionFate, Slot,
    openenv::{CallId, ToolStep, call_result, tool_result},
};
use mio::event::Event as Readiness;
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};

use crate::{
    desk::Desk,
    http_answer::{Answer, Incoming, Wrong},
    lingering::Closing,
    link::{Backlog, Link, Traffic},
    options::Target,
    session::{Over, Turn},
    socket::disconnected,
};

/// How many connections are tried for the process that knows a session. With two processes it is
/// missed once in 65,536 times.
const RECONNECTS_MAX: u32 = 16;

/// How often one turn reads.
const READS_PER_TURN: usize = 16;

/// A session of `POST /mcp`.
#[derive(Debug)]
pub(crate) struct McpHttp {
    slot: Slot,
    target: Arc<Target>,
    link: Option<Link>,
    backlog: Backlog,
    incoming: Incoming,
    /// The session's name on the server, once it is made.
    session: Option<String>,
    /// The last command taken for this slot, or the one outstanding.
    generation: Generation,
    /// What is being done: the exchange under way first.
    plan: Vec<Exchange>,
    /// Connections made for the request under way, and whether this one is another than that on
    /// which the session was made.
    reconnects: u32,
    moved: bool,
}

/// One request of this protocol.
#[derive(Debug)]
struct Exchange {
    call: Call,
    body: String,
}

#[derive(Debug)]
enum Call {
    /// The session before this one is ended; whatever comes of it.
    End,
    /// The session is made.
    Create,
    /// The tools: what a reset shows.
    Reset,
    /// The tools, or a tool, as a step.
    Step(ToolStep),
    /// A call of the caller's own.
    Raw(CallId),
}

impl McpHttp {
    pub(crate) fn new(slot: Slot, link: Link, generation: Generation, target: Arc<Target>) -> Self {
        Self {
            slot,
            target,
            link: Some(link),
            backlog: Backlog::default(),
            incoming: Incoming::default(),
            session: None,
            generation,
            plan: Vec::new(),
            reconnects: 0,
            moved: false,
        }
    }

    pub(crate) const fn slot(&self) -> Slot {
        self.slot
    }

    pub(crate) const fn generation(&self) -> Generation {
        self.generation
    }

    pub(crate) fn target(&self) -> Arc<Target> {
        Arc::clone(&self.target)
    }

    pub(crate) const fn is_busy(&self) -> bool {
        !self.plan.is_empty()
    }

    pub(crate) fn notice(&mut self, readiness: &Readiness) {
        if let Some(link) = &mut self.link {
            link.notice(readiness);
        }
    }

    pub(crate) fn take_traffic(&mut self) -> Traffic {
        self.link.as_mut().map(Link::take_traffic).unwrap_or_default()
    }

    /// Sends a request, unless one is outstanding.
    pub(crate) fn send(
        &mut self,
        generation: Generation,
        request: &Request,
        desk: &mut Desk,
        events: &mut Vec<Event>,
    ) -> Turn {
        let plan = if self.is_busy() {
            Err(Failure::kept(
                FailureKind::Limit,
                "a command of this session is outstanding, and one is answered at a time",
            ))
        } else {
            self.plan(request)
        };
        match plan {
            Ok(plan) => {
                self.generation = generation;
                self.plan = plan;
                self.reconnects = 0;
                self.begin_exchange(desk, events)
            }
            Err(failure) => {
                let outcome = Outcome::Failed(failure);
                events.push(Event { slot: self.slot, generation, outcome });
                Turn::Waits
            }
        }
    }

    /// The exchanges that a request comes to, in order.
    fn plan(&self, request: &Request) -> Result<Vec<Exchange>, Failure> {
        let mut plan = Vec::new();
        let is_reset = matches!(request, Request::Reset { .. });
        if is_reset && self.session.is_some() {
            plan.push(Exchange::new(Call::End, "openenv/session/close"));
        }
        if is_reset || self.session.is_none() {
            plan.push(Exchange::new(Call::Create, "openenv/session/create"));
        }
        plan.push(match request {
            Request::Reset { .. } => Exchange::new(Call::Reset, "tools/list"),
            Request::Step { action } => step(action)?,
            Request::ToolCall { request } => Exchange {
                call: Call::Raw(CallId::of(request)),
                body: str::from_utf8(request)
                    .map_err(|_| {
                        Failure::kept(FailureKind::Refused, "not sent: it is not valid UTF-8")
                    })?
                    .to_owned(),
            },
            Request::State | Request::Open { .. } | Request::Close => {
                return Err(Failure::kept(
                    FailureKind::Refused,
                    "not sent: sessions of POST /mcp tell no state",
                ));
            }
        });
        Ok(plan)
    }

    /// The new connection stands.
    pub(crate) fn resume(&mut self, link: Link, desk: &mut Desk, events: &mut Vec<Event>) -> Turn {
        self.link = Some(link);
        self.moved = self.session.is_some();
        self.begin_exchange(desk, events)
    }

    fn begin_exchange(&mut self, desk: &mut Desk, events: &mut Vec<Event>) -> Turn {
        let Some(exchange) = self.plan.first() else { return Turn::Waits };
        let Some(link) = &mut self.link else {
            self.reconnects += 1;
            return Turn::Reconnects;
        };
        let body = match with_session(&exchange.body, self.session.as_deref()) {
            Ok(body) => body,
            Err(failure) => return self.answered(Outcome::Failed(failure)).put(events),
        };
        let request = post(&self.target, &body, true);
        self.incoming = Incoming::default();
        match self.backlog.send(&request, link) {
            Ok(()) => self.turn(desk, events),
            Err(error) => self.broken(&error, events),
        }
    }

    /// Deals with what the event queue said about its connection.
    pub(crate) fn turn(&mut self, desk: &mut Desk, events: &mut Vec<Event>) -> Turn {
        for _ in 0..READS_PER_TURN {
            let Some(link) = &mut self.link else { return Turn::Waits };
            if let Err(error) = self.backlog.flush(link) {
                return self.broken(&error, events);
            }
            let read = match link.read(&mut desk.incoming) {
                Ok(0) => return self.broken(&ErrorKind::UnexpectedEof.into(), events),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Turn::Waits,
                Err(error) => return self.broken(&error, events),
            };
            if !self.is_busy() {
                // What nobody asked for, such as a goodbye in HTTP.
                self.link = None;
                return Turn::Waits;
            }
            match self.incoming.take(&desk.incoming[..read], desk.message_bytes_max) {
                Ok(None) => {}
                Ok(Some(answer)) => return self.answer(answer, desk, events),
                Err(Wrong::TooLarge) => {
                    let what = "an answer is larger than the configured limit";
                    return self.lost(Failure::lost(FailureKind::TooLarge, what), events);
                }
                Err(Wrong::NotHttp(what)) => {
                    let what = format!("{} does not answer in HTTP: {what}", self.target.address);
                    return self.lost(Failure::lost(FailureKind::Protocol, what), events);
                }
            }
        }
        Turn::Continues
    }

    fn answer(&mut self, answer: Answer, desk: &mut Desk, events: &mut Vec<Event>) -> Turn {
        if !answer.keeps {
            self.link = None;
        }
        if answer.status != 200 {
            let Answer { status, .. } = answer;
            let what = format!("POST /mcp on {} answered {status}", self.target.address);
            return self.lost(Failure::lost(FailureKind::UpgradeRefused { status }, what), events);
        }
        let body = Bytes::from(answer.body);
        if self.plan.first().is_some_and(|exchange| !matches!(exchange.call, Call::End))
            && is_unknown_session(&body)
        {
            return self.unknown(desk, events);
        }
        let Exchange { call, .. } = self.plan.remove(0);
        let outcome = match call {
            Call::End => {
                self.session = None;
                return self.begin_exchange(desk, events);
            }
            Call::Create => match result_of(&body).and_then(|result| created(&result)) {
                Ok(session) => {
                    self.session = Some(session);
                    self.moved = false;
                    return self.begin_exchange(desk, events);
                }
                Err(failure) => Outcome::Failed(failure),
            },
            Call::Reset => result_of(&body).map_or_else(Outcome::Failed, |tools| {
                Outcome::Reset(Observed { observation: tools.into(), ..Observed::default() })
            }),
            Call::Step(step) => {
                let answer = tool_result(&body, &request_id());
                step.outcome(answer.map_or_else(Outcome::Failed, Outcome::ToolResult))
            }
            Call::Raw(id) => {
                tool_result(&body, &id).map_or_else(Outcome::Failed, Outcome::ToolResult)
            }
        };
        match outcome {
            Outcome::Failed(failure) if failure.session == SessionFate::Lost => {
                self.plan.insert(0, Exchange { call: Call::End, body: String::new() });
                self.lost(failure, events)
            }
            outcome => self.answered(outcome).put(events),
        }
    }

    /// The process at the other end does not know the session.
    fn unknown(&mut self, desk: &mut Desk, events: &mut Vec<Event>) -> Turn {
        if self.moved && self.reconnects < RECONNECTS_MAX {
            self.link = None;
            return self.begin_exchange(desk, events);
        }
        let failure = if self.moved {
            Failure::lost(
                FailureKind::Session,
                format!(
                    "none of the processes behind {} that {} connections led to knows the session; \
                     its connection had ended in a pause",
                    self.target.address, self.reconnects
                ),
            )
        } else {
            Failure::lost(
                FailureKind::Expired,
                "the server has given the session up: it knows it no longer, on the connection on \
                 which it was made",
            )
        };
        self.lost(failure, events)
    }

    /// The connection is gone. Idle, that is nothing: the next request makes another.
    fn broken(&mut self, error: &io::Error, events: &mut Vec<Event>) -> Turn {
        self.link = None;
        self.backlog = Backlog::default();
        if self.is_busy() { self.lost(disconnected(error), events) } else { Turn::Waits }
    }

    fn answered(&mut self, outcome: Outcome) -> Answered {
        self.plan.clear();
        Answered(Event { slot: self.slot, generation: self.generation, outcome })
    }

    fn lost(&mut self, mut failure: Failure, events: &mut Vec<Event>) -> Turn {
        failure.session = SessionFate::Lost;
        let idle = (!self.is_busy()).then(|| Box::new(failure.clone()));
        let _ = self.answered(Outcome::Failed(failure)).put(events);
        Turn::Over(Over { idle })
    }

    /// Ends the session on the server, where its connection still stands.
    pub(crate) fn close(&mut self) -> io::Result<Option<Closing>> {
        let (Some(mut link), Some(session)) = (self.link.take(), self.session.as_deref()) else {
            return Ok(None);
        };
        let exchange = Exchange::new(Call::End, "openenv/session/close");
        let body = with_session(&exchange.body, Some(session)).unwrap_or_default();
        let mut backlog = mem::take(&mut self.backlog);
        backlog.send(&post(&self.target, &body, false), &mut link)?;
        Ok(Some(Closing::new(link, backlog)))
    }
}

/// The event of a command that is answered.
struct Answered(Event);

impl Answered {
    fn put(self, events: &mut Vec<Event>) -> Turn {
        events.push(self.0);
        Turn::Waits
    }
}

impl Exchange {
    fn new(call: Call, method: &str) -> Self {
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": {}});
        Self { call, body: body.to_string() }
    }
}

/// A `list_tools` or `call_tool` action as an exchange.
fn step(action: &[u8]) -> Result<Exchange, Failure> {
    let invalid = |what: &dyn std::fmt::Display| {
        Failure::kept(FailureKind::Invalid, format!("not sent: {what}"))
    };
    let step = ToolStep::read(action).map_err(|error| invalid(&error))?;
    let (step, body) = step.ok_or_else(|| {
        invalid(
            &"over POST /mcp an action is {\"type\":\"call_tool\",\"tool_name\":…,\"arguments\":{…}} \
              or {\"type\":\"list_tools\"}",
        )
    })?;
    Ok(Exchange { call: Call::Step(step), body })
}

/// The request with the session's name among its parameters.
fn with_session(body: &str, session: Option<&str>) -> Result<String, Failure> {
    let Some(session) = session else { return Ok(body.to_owned()) };
    let invalid = |what: String| Failure::kept(FailureKind::Refused, format!("not sent: {what}"));
    let mut request: std::collections::BTreeMap<String, Box<RawValue>> =
        serde_json::from_str(body).map_err(|error| invalid(error.to_string()))?;
    let params = request.get("params").map_or("{}", |params| params.get()).trim().to_owned();
    let Some(inner) = params.strip_prefix('{') else {
        return Err(invalid("the `params` of a tool call are an object".into()));
    };
    let comma = if inner.trim_start().starts_with('}') { "" } else { "," };
    // What comes first is overruled by what the caller says, in every JSON reader that takes both.
    let params = format!(r#"{{"session_id":{}{comma}{inner}"#, Value::from(session));
    let params = RawValue::from_string(params).map_err(|error| invalid(error.to_string()))?;
    request.insert("params".into(), params);
    serde_json::to_string(&request).map_err(|error| invalid(error.to_string()))
}

fn post(target: &Target, body: &str, keep: bool) -> Vec<u8> {
    let mut request = String::with_capacity(256 + body.len());
    // Writing into a string cannot fail.
    let _ = write!(
        request,
        "POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nAccept: \
         application/json\r\nUser-Agent: envmill/{version}\r\nContent-Length: {length}\r\n",
        path = target.address.path("/mcp", None),
        host = target.address.authority(),
        version = env!("CARGO_PKG_VERSION"),
        length = body.len(),
    );
    if !keep {
        request.push_str("Connection: close\r\n");
    }
    for (name, value) in &target.headers {
        let _ = write!(request, "{name}: {value}\r\n");
    }
    request.push_str("\r\n");
    request.push_str(body);
    request.into_bytes()
}

/// The id of requests of ours.
fn request_id() -> CallId {
    CallId::of(br#"{"id":1}"#)
}

/// The result of a request of ours.
fn result_of(body: &Bytes) -> Result<Bytes, Failure> {
    call_result(body, &request_id())
}

fn created(result: &[u8]) -> Result<String, Failure> {
    #[derive(Deserialize)]
    struct Created {
        session_id: String,
    }
    let created: Created = serde_json::from_slice(result).map_err(|error| {
        Failure::lost(FailureKind::NotOpenEnv, format!("no session was made: {error}"))
    })?;
    Ok(created.session_id)
}

fn is_unknown_session(body: &[u8]) -> bool {
    // The code (-32602) is that of other mistakes too; only the words tell.
    #[derive(Deserialize)]
    struct Response {
        error: Option<Said>,
    }
    #[derive(Deserialize)]
    struct Said {
        message: String,
    }
    serde_json::from_slice::<Response>(body)
        .ok()
        .and_then(|response| response.error)
        .is_some_and(|error| error.message.starts_with("Unknown session_id"))
}
