//! One session on a standing WebSocket: a request out, its answer in, one at a time.

use std::{
    io::{self, ErrorKind},
    mem,
    time::{Duration, Instant},
};

use bytes::Bytes;
use envmill_protocol::{
    Event, Failure, FailureKind, Generation, Observed, Outcome, Request, SessionFate, Slot,
    openenv::{self, CallId, Decoder, Expect, HarnessFrame, HarnessTurn, Reply},
};
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use crate::{
    Transport,
    desk::Desk,
    lingering::Closing,
    link::{Backlog, Link},
    options::Target,
    session::{Over, Turn},
    websocket::{Masks, Reader, Received, Violation, append_frame},
};

/// How often a socket is read before the others have their turn. With the default buffer that is
/// 1 MiB.
const READS_PER_TURN: usize = 16;

/// The most bytes that may wait to be written when a pong is added. A server that pings without
/// reading the answers gets no more of them; only the last matters, by RFC 6455.
const PONG_BACKLOG_BYTES: usize = 64 * 1024;

/// A session whose WebSocket stands.
#[derive(Debug)]
pub(crate) struct Socket {
    slot: Slot,
    link: Link,
    reader: Reader,
    backlog: Backlog,
    /// The last command taken for this slot, or the one outstanding.
    generation: Generation,
    outstanding: Option<Outstanding>,
    /// Turns of the ping timer in which nothing was heard.
    silent: u8,
    /// What names the tool call that is outstanding.
    call: Option<Box<CallId>>,
    /// What is not as usual about this session.
    nature: Option<Box<Nature>>,
}

/// What only some sessions have.
#[derive(Debug)]
pub(crate) struct Nature {
    /// It was to be attached to, and has not answered yet.
    attaching: bool,
    /// It has answered.
    answered: bool,
    /// After how long an idle one is given up by its server, and since when it has been idle.
    expiry: Option<(Duration, Instant)>,
    /// It is an agent's, run by the server.
    harness: Option<Harness>,
}

/// An agent's session.
#[derive(Debug, Default)]
struct Harness {
    /// What the server said when it had started, until the reset takes it.
    started: Option<Bytes>,
    /// Whether the one reset was asked for.
    reset: bool,
    turn: HarnessTurn,
}

impl Nature {
    pub(crate) fn new(target: &Target, attaching: bool) -> Option<Box<Self>> {
        let harness = target.transport == Transport::Harness;
        (attaching || harness || target.session_timeout.is_some()).then(|| {
            Box::new(Self {
                attaching,
                answered: false,
                expiry: target.session_timeout.map(|timeout| (timeout, Instant::now())),
                harness: harness.then(Harness::default),
            })
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Outstanding {
    Reset,
    Step,
    State,
    ToolCall,
}

impl Outstanding {
    const fn of(request: &Request) -> Option<Self> {
        match request {
            Request::Reset { .. } => Some(Self::Reset),
            Request::Step { .. } => Some(Self::Step),
            Request::State => Some(Self::State),
            Request::ToolCall { .. } => Some(Self::ToolCall),
            Request::Open { .. } | Request::Close => None,
        }
    }

    const fn expect(self) -> Expect {
        match self {
            Self::Reset | Self::Step => Expect::Observation,
            Self::State => Expect::State,
            Self::ToolCall => Expect::Mcp,
        }
    }

    fn outcome(self, reply: Reply) -> Outcome {
        match reply {
            Reply::Observed(observed) if self == Self::Reset => Outcome::Reset(observed),
            Reply::Observed(observed) => Outcome::Stepped(observed),
            Reply::State(state) => Outcome::State(state),
            Reply::Mcp(response) => Outcome::ToolResult(response),
        }
    }
}

impl Socket {
    pub(crate) fn new(
        slot: Slot,
        link: Link,
        generation: Generation,
        nature: Option<Box<Nature>>,
    ) -> Self {
        Self {
            slot,
            link,
            reader: Reader::default(),
            backlog: Backlog::default(),
            generation,
            outstanding: None,
            silent: 0,
            call: None,
            nature,
        }
    }

    pub(crate) const fn slot(&self) -> Slot {
        self.slot
    }

    pub(crate) const fn is_busy(&self) -> bool {
        self.outstanding.is_some()
    }

    pub(crate) fn link(&mut self) -> &mut Link {
        &mut self.link
    }

    /// Sends a request, unless one is outstanding.
    pub(crate) fn send(
        &mut self,
        generation: Generation,
        request: &Request,
        desk: &mut Desk,
        events: &mut Vec<Event>,
    ) -> Turn {
        let Some(outstanding) = Outstanding::of(request) else { return Turn::Waits };
        if self.outstanding.is_some() {
            let failure = Failure::kept(
                FailureKind::Limit,
                "a command of this session is outstanding, and OpenEnv answers one at a time",
            );
            events.push(Event { slot: self.slot, generation, outcome: Outcome::Failed(failure) });
            return Turn::Waits;
        }
        if str::from_utf8(payload(request)).is_err() {
            // A server must close the connection over such a message, and the session with it.
            let failure = Failure::kept(FailureKind::Refused, "not sent: it is not valid UTF-8");
            events.push(Event { slot: self.slot, generation, outcome: Outcome::Failed(failure) });
            return Turn::Waits;
        }
        self.generation = generation;
        self.outstanding = Some(outstanding);
        if let Request::ToolCall { request } = request {
            self.call = Some(Box::new(CallId::of(request)));
        }
        if let Some(idle) = self.expired() {
            let message = format!(
                "not sent: the session was idle for {idle:?}, longer than its server keeps one"
            );
            let failure = Failure::lost(FailureKind::Expired, message);
            return Turn::Over(self.lost(failure, events));
        }
        if self.harness().is_some() {
            return self.send_to_harness(request, desk, events);
        }
        append_frame(&mut desk.out, OpCode::Data(Data::Text), &mut desk.masks, |out| {
            openenv::encode_into(out, request);
        });
        let sent = self.backlog.send(&desk.out, &mut self.link);
        desk.clear_out();
        match sent {
            Ok(()) => Turn::Waits,
            Err(error) => self.broken(&error, desk, events),
        }
    }

    /// Deals with what the event queue said about the socket.
    pub(crate) fn turn(&mut self, desk: &mut Desk, events: &mut Vec<Event>) -> Turn {
        if let Err(error) = self.backlog.flush(&mut self.link) {
            return self.broken(&error, desk, events);
        }
        self.read(desk, events)
    }

    /// Takes in bytes that came with the answer to the upgrade.
    pub(crate) fn begin(&mut self, rest: &[u8], desk: &mut Desk, events: &mut Vec<Event>) -> Turn {
        let limit = desk.message_bytes_max;
        match self.take(rest, limit, &desk.decoder, &mut desk.masks, events) {
            Some(over) => Turn::Over(over),
            None => self.read(desk, events),
        }
    }

    /// Sends a ping, or gives an idle session up that has been silent for two turns of the timer.
    pub(crate) fn ping(&mut self, desk: &mut Desk, events: &mut Vec<Event>) -> Turn {
        if self.silent >= 2 && self.outstanding.is_none() {
            let failure = Failure::lost(
                FailureKind::Disconnected,
                "the session answered neither of two pings; the connection is gone",
            );
            return Turn::Over(self.lost(failure, events));
        }
        self.silent = self.silent.saturating_add(1);
        match self.control(Control::Ping, b"", &mut desk.masks) {
            Ok(()) => Turn::Waits,
            Err(error) => self.broken(&error, desk, events),
        }
    }

    /// Says goodbye, to the environment and in WebSocket, and leaves the socket to linger.
    pub(crate) fn close(mut self, desk: &mut Desk) -> io::Result<Closing> {
        if self.harness().is_none() {
            append_frame(&mut desk.out, OpCode::Data(Data::Text), &mut desk.masks, |out| {
                openenv::encode_into(out, &Request::Close);
            });
        }
        append_frame(&mut desk.out, OpCode::Control(Control::Close), &mut desk.masks, |out| {
            out.extend_from_slice(&1000u16.to_be_bytes());
        });
        let sent = self.backlog.send(&desk.out, &mut self.link);
        desk.clear_out();
        sent.map(|()| Closing::new(self.link, self.backlog))
    }

    fn read(&mut self, desk: &mut Desk, events: &mut Vec<Event>) -> Turn {
        let limit = desk.message_bytes_max;
        for _ in 0..READS_PER_TURN {
            let read = match self.link.read(&mut desk.incoming) {
                Ok(0) => {
                    let failure = Failure::lost(
                        FailureKind::Disconnected,
                        "the server ended the connection without a close frame",
                    );
                    return Turn::Over(self.lost(failure, events));
                }
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Turn::Waits,
                Err(error) => return Turn::Over(self.lost(disconnected(&error), events)),
            };
            self.silent = 0;
            let bytes = &desk.incoming[..read];
            if let Some(over) = self.take(bytes, limit, &desk.decoder, &mut desk.masks, events) {
                return Turn::Over(over);
            }
        }
        Turn::Continues
    }

    fn take(
        &mut self,
        mut bytes: &[u8],
        limit: usize,
        decoder: &Decoder,
        masks: &mut Masks,
        events: &mut Vec<Event>,
    ) -> Option<Over> {
        loop {
            let failure = match self.reader.next(&mut bytes, limit) {
                Ok(None) => return None,
                Ok(Some(Received::Text(frame))) => {
                    match self.hear(&frame, limit, decoder, events) {
                        Ok(()) => continue,
                        Err(failure) => failure,
                    }
                }
                Ok(Some(Received::Pong)) => continue,
                Ok(Some(Received::Ping(payload))) => {
                    if self.backlog.len() <= PONG_BACKLOG_BYTES
                        && let Err(error) = self.control(Control::Pong, &payload, masks)
                    {
                        // What is left in `bytes` may say more than the error does.
                        tracing::debug!(slot = self.slot.0, %error, "a pong could not be sent");
                    }
                    continue;
                }
                Ok(Some(Received::Close { code, reason })) => {
                    // The peer wants its close frame back; whether it gets it changes nothing here.
                    let code_back = if code == 1005 { 1000 } else { code };
                    let _ = self.control(Control::Close, &code_back.to_be_bytes(), masks);
                    openenv::close_failure(code, &reason)
                }
                Err(violation @ Violation::TooLarge { .. }) => {
                    Failure::lost(FailureKind::TooLarge, violation.to_string())
                }
                Err(violation @ Violation::Protocol(_)) => {
                    Failure::lost(FailureKind::Protocol, violation.to_string())
                }
            };
            return Some(self.lost(failure, events));
        }
    }

    /// Takes a text message to whoever speaks its language.
    fn hear(
        &mut self,
        frame: &Bytes,
        limit: usize,
        decoder: &Decoder,
        events: &mut Vec<Event>,
    ) -> Result<(), Failure> {
        if self.harness().is_some() {
            self.hear_harness(frame, limit, events)
        } else {
            self.answer(frame, decoder, events)
        }
    }

    fn harness(&mut self) -> Option<&mut Harness> {
        self.nature.as_mut()?.harness.as_mut()
    }

    /// A reset is the start of the agent, which is not asked for; a step is a message to it.
    fn send_to_harness(
        &mut self,
        request: &Request,
        desk: &mut Desk,
        events: &mut Vec<Event>,
    ) -> Turn {
        let Some(harness) = self.harness() else { return Turn::Waits };
        let refused = match request {
            Request::Reset { .. } if harness.reset => Failure::lost(
                FailureKind::Refused,
                "not sent: a harness session is one episode; open another",
            ),
            Request::Reset { .. } => {
                harness.reset = true;
                self.answer_harness_reset(events);
                return Turn::Waits;
            }
            Request::Step { action } => {
                let mut message = Vec::new();
                match openenv::encode_message_into(&mut message, action) {
                    Err(failure) => failure,
                    Ok(()) => {
                        let text = OpCode::Data(Data::Text);
                        append_frame(&mut desk.out, text, &mut desk.masks, |out| {
                            out.extend_from_slice(&message);
                        });
                        let sent = self.backlog.send(&desk.out, &mut self.link);
                        desk.clear_out();
                        return match sent {
                            Ok(()) => Turn::Waits,
                            Err(error) => self.broken(&error, desk, events),
                        };
                    }
                }
            }
            _ => Failure::kept(
                FailureKind::Refused,
                "not sent: a harness takes messages only, and has neither state nor tools to call",
            ),
        };
        if refused.session == SessionFate::Lost {
            return Turn::Over(self.lost(refused, events));
        }
        self.report(Outcome::Failed(refused), events);
        Turn::Waits
    }

    fn answer_harness_reset(&mut self, events: &mut Vec<Event>) {
        if self.outstanding == Some(Outstanding::Reset)
            && let Some(harness) = self.harness()
            && let Some(observation) = harness.started.take()
        {
            let observed = Observed { observation: observation.into(), ..Observed::default() };
            self.report(Outcome::Reset(observed), events);
        }
    }

    fn hear_harness(
        &mut self,
        frame: &Bytes,
        limit: usize,
        events: &mut Vec<Event>,
    ) -> Result<(), Failure> {
        let in_turn = self.outstanding == Some(Outstanding::Step);
        let decoded = openenv::decode_harness(frame);
        let Some(harness) = self.harness() else { return Ok(()) };
        match decoded {
            Ok(HarnessFrame::Started(data)) if harness.started.is_none() => {
                harness.started = Some(data);
                self.answer_harness_reset(events);
            }
            Ok(HarnessFrame::Event) if in_turn => {
                harness.turn.push(frame);
                if harness.turn.bytes() > limit {
                    let what = format!("the events of one turn are more than {limit} bytes");
                    return Err(Failure::lost(FailureKind::TooLarge, what));
                }
            }
            Ok(HarnessFrame::TurnComplete { response, done }) if in_turn => {
                harness.turn.push(frame);
                let observed = mem::take(&mut harness.turn).observed(&response, done);
                self.report(Outcome::Stepped(observed), events);
            }
            Err(failure) if failure.session == SessionFate::Kept && in_turn => {
                self.report(Outcome::Failed(failure), events);
            }
            Err(failure) if failure.session == SessionFate::Lost => return Err(failure),
            _ => {
                return Err(Failure::lost(
                    FailureKind::Protocol,
                    "the harness sent an event that belongs to no turn",
                ));
            }
        }
        Ok(())
    }

    /// How long the session has been idle, if its server has given it up by now.
    fn expired(&self) -> Option<Duration> {
        let (timeout, since) = self.nature.as_ref()?.expiry?;
        let idle = since.elapsed();
        (idle > timeout).then_some(idle)
    }

    /// Answers what is outstanding.
    fn report(&mut self, outcome: Outcome, events: &mut Vec<Event>) {
        self.outstanding = None;
        self.call = None;
        if let Some(nature) = &mut self.nature {
            nature.attaching = false;
            nature.answered = true;
            if let Some((_, since)) = &mut nature.expiry {
                *since = Instant::now();
            }
        }
        events.push(Event { slot: self.slot, generation: self.generation, outcome });
    }

    /// Turns a text message into the event that it stands for. A failure that is returned ends the
    /// session; one that does not is an event.
    fn answer(
        &mut self,
        frame: &Bytes,
        decoder: &Decoder,
        events: &mut Vec<Event>,
    ) -> Result<(), Failure> {
        let Some(outstanding) = self.outstanding else {
            return Err(unasked(decoder.decode(frame, Expect::State)));
        };
        let outcome = match decoder.decode(frame, outstanding.expect()) {
            Ok(Reply::Mcp(response)) => {
                match openenv::tool_result(
                    &response,
                    self.call.as_deref().unwrap_or(&CallId::default()),
                ) {
                    Ok(response) => Outcome::ToolResult(response),
                    Err(failure) if failure.session == SessionFate::Kept => {
                        Outcome::Failed(failure)
                    }
                    Err(failure) => return Err(failure),
                }
            }
            Ok(reply) => outstanding.outcome(reply),
            Err(failure) if failure.session == SessionFate::Kept => Outcome::Failed(failure),
            Err(failure) => return Err(failure),
        };
        let first = self.nature.as_ref().is_some_and(|nature| !nature.answered);
        if let (Some(idle), false) = (self.expired(), first) {
            // The first answer had the environment's construction before it.
            // The server looks at its clock while a step runs, too.
            let message = format!(
                "the answer came {idle:?} after the one before, and the server gives a session up \
                 after less: its environment may have been closed by then"
            );
            return Err(Failure::lost(FailureKind::Expired, message));
        }
        self.report(outcome, events);
        Ok(())
    }

    fn control(&mut self, control: Control, payload: &[u8], masks: &mut Masks) -> io::Result<()> {
        let mut frame = Vec::new();
        append_frame(&mut frame, OpCode::Control(control), masks, |out| {
            out.extend_from_slice(payload);
        });
        self.backlog.send(&frame, &mut self.link)
    }

    /// Writing failed. What the server said before it left is still there, and says more.
    fn broken(&mut self, error: &io::Error, desk: &mut Desk, events: &mut Vec<Event>) -> Turn {
        self.link.expect_end();
        loop {
            match self.read(desk, events) {
                Turn::Continues => {}
                Turn::Waits | Turn::Reconnects => {
                    return Turn::Over(self.lost(disconnected(error), events));
                }
                over @ Turn::Over(_) => return over,
            }
        }
    }

    /// The session is gone: the answer to what is outstanding, or unasked news.
    fn lost(&mut self, mut failure: Failure, events: &mut Vec<Event>) -> Over {
        failure.session = SessionFate::Lost;
        let attaching = self.nature.as_ref().is_some_and(|nature| nature.attaching);
        if attaching && failure.kind == FailureKind::Session {
            failure.kind = FailureKind::Attach;
        }
        let idle = self.outstanding.take().is_none().then(|| Box::new(failure.clone()));
        let outcome = Outcome::Failed(failure);
        events.push(Event { slot: self.slot, generation: self.generation, outcome });
        Over { idle }
    }
}

fn payload(request: &Request) -> &[u8] {
    match request {
        Request::Reset { parameters: payload }
        | Request::Step { action: payload }
        | Request::ToolCall { request: payload } => payload,
        Request::Open { .. } | Request::State | Request::Close => b"",
    }
}

/// What a message means that answers nothing: the server gives the session up, or it is out of step.
fn unasked(decoded: Result<Reply, Failure>) -> Failure {
    match decoded {
        Err(failure)
            if failure.session == SessionFate::Lost && failure.kind != FailureKind::Protocol =>
        {
            failure
        }
        _ => Failure::lost(
            FailureKind::Protocol,
            "the server sent a message that answers nothing; its answers are out of step",
        ),
    }
}

pub(crate) fn disconnected(error: &io::Error) -> Failure {
    Failure::lost(FailureKind::Disconnected, format!("the connection broke: {error}"))
}
