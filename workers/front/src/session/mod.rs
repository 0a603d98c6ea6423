//! One WebSocket session, from the upgrade to the end of its connection: on `/ws` in OpenEnv's own
//! messages, on `/mcp` in JSON-RPC.
//!
//! A session is a future written by hand: what it holds while idle is what is named in [`Session`],
//! and nothing else. It treats one request at a time. While that is under way it goes on reading, so
//! that pings are answered and a client that has gone is noticed, until one more request waits; then
//! it stops, and TCP tells the client to.

mod call;
mod channel;
mod reply;
mod seat;
mod socket;

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use envmill_protocol::{
    Outcome, Request,
    openenv::server::{ClientMessage, RpcId, ServerError, decode_message},
};
use tokio::{
    net::TcpStream,
    sync::{mpsc, oneshot},
    time::{self, Instant, Sleep},
};
use tungstenite::protocol::frame::coding::CloseCode;

use self::{
    channel::{Broken, Channel, Received},
    reply::Reply,
    seat::Seat,
};
use crate::{
    Options,
    hub::Hub,
    named::{Directory, Refused},
};

/// How long a client may take to answer a close frame.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// How much of a message that was refused is read and thrown away, so that the client, still busy
/// sending, gets to see why it is being closed.
const DISCARD_BYTES_MAX: usize = 64 << 20;

/// How many things a session does in one turn before it lets others have theirs.
const TURN_MAX: u32 = 32;

/// What a session works with.
#[derive(Clone)]
pub(crate) struct Surroundings {
    pub(crate) hub: Arc<Hub>,
    pub(crate) directory: Arc<Directory>,
    pub(crate) options: Arc<Options>,
}

/// Which messages are spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// Those of `/ws`.
    Ws,
    /// JSON-RPC, on `WS /mcp`.
    Mcp,
}

/// A session on `stream`; `early` is what came behind the upgrade request. `attach` is the session
/// that the client wants to attach to, if any. `alive` is held until the session is over.
pub(crate) async fn run(
    surroundings: Surroundings,
    dialect: Dialect,
    stream: TcpStream,
    early: Vec<u8>,
    attach: Option<String>,
    alive: mpsc::Sender<()>,
) {
    let options = &surroundings.options;
    let channel = Channel::new(stream, early, options.message_bytes_max);
    let mut session = Session {
        channel,
        dialect,
        seat: None,
        pending: None,
        waiting: None,
        phase: Phase::Serving,
        timer: options.ping_interval.map(|interval| Box::pin(time::sleep(interval))),
        pong_due: false,
        surroundings,
    };
    session.begin(attach);
    session.await;
    drop(alive);
}

struct Session {
    channel: Channel,
    dialect: Dialect,
    /// `None` if there was no room, and after the end.
    seat: Option<Seat>,
    /// What is under way.
    pending: Option<Pending>,
    /// One request that came meanwhile.
    waiting: Option<Incoming>,
    phase: Phase,
    /// The next ping, the end of the wait for its pong, or the end of the wait for a close.
    timer: Option<Pin<Box<Sleep>>>,
    pong_due: bool,
    surroundings: Surroundings,
}

/// What is under way.
enum Pending {
    /// The session is being opened, or the worker is at a message of `/ws`.
    Worker,
    /// The worker is at a JSON-RPC request of this name.
    Call(Box<RpcId>),
    /// Another session is being closed, as asked by a JSON-RPC request.
    Closing(Box<ClosingOther>),
}

struct ClosingOther {
    id: RpcId,
    session_id: String,
    ended: oneshot::Receiver<()>,
}

enum Incoming {
    Text(Bytes),
    Binary,
}

#[derive(Clone, Copy)]
enum Phase {
    Serving,
    /// A close frame was sent or answered; the client's part is awaited.
    Closing,
    /// A close frame was sent, and what comes can no longer be read as frames.
    Discarding {
        /// How many more bytes.
        left: usize,
        /// Whether the close frame is out.
        finished: bool,
    },
}

/// Whether there may be more to do at once.
enum Progress {
    Made,
    None,
    Over,
}

impl Future for Session {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        for _ in 0..TURN_MAX {
            let progress = match this.phase {
                Phase::Serving => this.serve(cx),
                Phase::Closing => this.await_close(cx),
                Phase::Discarding { left, finished } => this.discard(left, finished, cx),
            };
            match progress {
                Progress::Made => {}
                Progress::Over => return Poll::Ready(()),
                Progress::None => {
                    ready!(this.poll_timer(cx));
                    if this.timed_out() {
                        return Poll::Ready(());
                    }
                }
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Session {
    fn begin(&mut self, attach: Option<String>) {
        let Surroundings { hub, directory, .. } = &self.surroundings;
        let error = if let Some(id) = attach.filter(|id| !id.is_empty()) {
            match directory.attach(&id) {
                Ok(member) => {
                    self.seat = Some(Seat::Named(member));
                    return;
                }
                Err(Refused::Unknown | Refused::Busy) => {
                    ServerError::Session(format!("Unknown session_id: {id}"))
                }
                Err(Refused::Initializing) => {
                    ServerError::Session(format!("Session {id} is still initializing"))
                }
                Err(Refused::Attached) => {
                    ServerError::Session(format!("Session {id} already has an attached WebSocket"))
                }
            }
        } else {
            match hub.open() {
                Ok(hold) => {
                    self.seat = Some(Seat::Own(hold));
                    self.pending = Some(Pending::Worker);
                    return;
                }
                Err(full) => {
                    ServerError::Capacity { active_sessions: full.active, max_sessions: full.max }
                }
            }
        };
        self.reply(Reply::error(self.dialect, &error));
    }

    fn serve(&mut self, cx: &mut Context<'_>) -> Progress {
        // Nothing is taken up while the client does not read what it got.
        if self.channel.poll_flush(cx).is_pending() {
            return Progress::None;
        }
        let Some(seat) = &mut self.seat else { return Progress::Over };
        match seat.poll_answer(cx) {
            Poll::Ready(Some(outcome)) => {
                self.answer(outcome);
                return Progress::Made;
            }
            Poll::Ready(None) => {
                self.close(CloseCode::Restart, "");
                return Progress::Made;
            }
            Poll::Pending => {}
        }
        if self.poll_closing(cx).is_ready() {
            return Progress::Made;
        }
        if self.pending.is_none()
            && let Some(incoming) = self.waiting.take()
        {
            self.take(incoming);
            return Progress::Made;
        }
        if self.waiting.is_some() {
            return Progress::None;
        }
        match self.channel.poll_receive(cx) {
            Poll::Pending => return Progress::None,
            Poll::Ready(Ok(Received::Text(text))) => self.incoming(Incoming::Text(text)),
            Poll::Ready(Ok(Received::Binary)) => self.incoming(Incoming::Binary),
            Poll::Ready(Ok(Received::Pong)) => self.pong_due = false,
            Poll::Ready(Ok(Received::Ping)) => {}
            Poll::Ready(Ok(Received::Close)) => self.enter(Phase::Closing),
            Poll::Ready(Err(Broken::Gone)) => return Progress::Over,
            Poll::Ready(Err(Broken::Violation(code, reason))) => {
                self.channel.close(code, &reason);
                self.enter(Phase::Discarding { left: DISCARD_BYTES_MAX, finished: false });
            }
        }
        Progress::Made
    }

    fn incoming(&mut self, incoming: Incoming) {
        if self.pending.is_some() {
            self.waiting = Some(incoming);
        } else {
            self.take(incoming);
        }
    }

    fn take(&mut self, incoming: Incoming) {
        let Incoming::Text(text) = incoming else {
            // What the reference server says: Python's KeyError, as text.
            self.reply(Reply::error(self.dialect, &ServerError::Session("'text'".into())));
            return;
        };
        if self.dialect == Dialect::Mcp {
            self.call(text);
            return;
        }
        match decode_message(&text) {
            Ok(ClientMessage::Reset { parameters }) => {
                self.ask(Request::Reset { parameters }, Pending::Worker);
            }
            Ok(ClientMessage::Step { action }) => {
                self.ask(Request::Step { action }, Pending::Worker);
            }
            Ok(ClientMessage::State) => self.ask(Request::State, Pending::Worker),
            Ok(ClientMessage::Mcp { request }) => self.call(request),
            Ok(ClientMessage::Close) => self.close(CloseCode::Normal, ""),
            Err(error) => self.reply(Reply::error(self.dialect, &error)),
        }
    }

    fn ask(&mut self, request: Request, pending: Pending) {
        if let Some(seat) = &mut self.seat {
            self.pending = Some(pending);
            seat.ask(request);
        }
    }

    fn answer(&mut self, outcome: Outcome) {
        // While another session is being closed, nothing else is asked: this is a loss.
        let call = match self.pending.take() {
            Some(Pending::Call(id)) => Some(id),
            Some(Pending::Worker | Pending::Closing(_)) | None => None,
        };
        let Surroundings { hub, options, .. } = &self.surroundings;
        let env_name = options.description.env_name();
        let full = || hub.full();
        if let Some(reply) = Reply::new(self.dialect, outcome, call.as_deref(), env_name, full) {
            self.reply(reply);
        }
    }

    fn reply(&mut self, reply: Reply) {
        if !self.channel.send_text(reply.frame) {
            let message = "Error serializing to JSON: invalid utf-8 sequence".to_owned();
            let error = ServerError::Execution(message);
            self.channel.send_text(Reply::error(self.dialect, &error).frame);
        }
        if reply.closes {
            self.close(CloseCode::Normal, "");
        }
    }

    fn close(&mut self, code: CloseCode, reason: &str) {
        self.channel.close(code, reason);
        self.enter(Phase::Closing);
    }

    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.seat = None;
        self.pending = None;
        self.waiting = None;
        self.set_timer(CLOSE_TIMEOUT);
    }

    fn await_close(&mut self, cx: &mut Context<'_>) -> Progress {
        let flushed = self.channel.poll_flush(cx).is_ready();
        match self.channel.poll_receive(cx) {
            Poll::Ready(Ok(_)) => Progress::Made,
            // What was written must still go out; the timer ends a wait for a client that is gone.
            Poll::Ready(Err(_)) if flushed => Progress::Over,
            Poll::Ready(Err(_)) | Poll::Pending => Progress::None,
        }
    }

    fn discard(&mut self, left: usize, finished: bool, cx: &mut Context<'_>) -> Progress {
        if self.channel.poll_flush(cx).is_pending() {
            return Progress::None;
        }
        if !finished {
            self.channel.finish();
        }
        match self.channel.poll_discard(cx) {
            Poll::Pending => {
                self.phase = Phase::Discarding { left, finished: true };
                Progress::None
            }
            Poll::Ready(count) if count == 0 || count >= left => Progress::Over,
            Poll::Ready(count) => {
                self.phase = Phase::Discarding { left: left - count, finished: true };
                Progress::Made
            }
        }
    }

    fn set_timer(&mut self, after: Duration) {
        match &mut self.timer {
            Some(timer) => timer.as_mut().reset(Instant::now() + after),
            none => *none = Some(Box::pin(time::sleep(after))),
        }
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.timer.as_mut().map_or(Poll::Pending, |timer| timer.as_mut().poll(cx))
    }

    /// The timer has run out: whether the session is over.
    fn timed_out(&mut self) -> bool {
        if !matches!(self.phase, Phase::Serving) {
            return true;
        }
        // While a request waits unread input may hold the pong.
        let silent = self.pong_due && self.waiting.is_none();
        if silent || !self.channel.is_flushed() {
            self.close(CloseCode::Error, "keepalive ping timeout");
            return false;
        }
        self.channel.send_ping();
        self.pong_due = true;
        self.set_timer(self.surroundings.options.ping_timeout);
        false
    }
}
