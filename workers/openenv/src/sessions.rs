//! Which slot has which socket, and what is done with it.

use std::{
    collections::{HashSet, VecDeque},
    mem,
    sync::Arc,
    time::{Duration, Instant},
};

use envmill_protocol::{
    Command, Event, Failure, FailureKind, Generation, Outcome, Request, ServerId, Slot,
};
use mio::{Registry, Token, Waker, event::Event as Readiness};

use crate::{
    Metrics, Options, OptionsError, Server,
    connections::{Connection, Connections, Key},
    desk::Desk,
    lingering::Lingering,
    opening::{Opening, Progress},
    options::Target,
    resolve::Resolver,
    session::{Over, Session, Turn},
    source::Sources,
    tls::Authorities,
};

/// The state behind an [`OpenEnvWorker`](crate::OpenEnvWorker): everything but the wait.
#[derive(Debug)]
pub(crate) struct Sessions {
    registry: Registry,
    servers: Vec<Arc<Target>>,
    /// Which sessions each server's openings attach to; `None` for new ones.
    attach: Vec<Option<Attach>>,
    authorities: Authorities,
    sources: Sources,
    resolver: Resolver<Key>,
    seats: Vec<Seat>,
    connections: Connections,
    lingering: Lingering,
    /// Sockets that had more to read than their turn allowed; the event queue will not name them
    /// again.
    again: Vec<Key>,
    again_now: Vec<Key>,
    ping: Option<Duration>,
    /// When each session is to be pinged, soonest first.
    pings: VecDeque<(Instant, Key)>,
    desk: Desk,
    events: Vec<Event>,
    metrics: Metrics,
}

/// The sessions of one server that are to be attached to.
#[derive(Debug)]
struct Attach {
    left: VecDeque<String>,
    used: HashSet<String>,
}

impl Attach {
    fn new(server: &Server, before: Option<Self>) -> Option<Self> {
        let used = before.map(|before| before.used).unwrap_or_default();
        let left = server.attach.iter().filter(|id| !used.contains(*id)).cloned().collect();
        (!server.attach.is_empty()).then_some(Self { left, used })
    }

    /// The next, once.
    fn next(&mut self) -> Option<String> {
        let id = self.left.pop_front()?;
        self.used.insert(id.clone());
        Some(id)
    }
}

/// One slot.
#[derive(Debug, Default)]
struct Seat {
    connection: Option<Key>,
    /// Why the session was lost while nothing was asked of it. A command that was on its way at that
    /// time is answered with this, since its sender had no chance to know.
    lost: Option<Box<Failure>>,
}

impl Sessions {
    pub(crate) fn new(
        options: Options,
        registry: Registry,
        waker: Arc<Waker>,
    ) -> Result<Self, OptionsError> {
        options.check()?;
        let authorities = Authorities::load(options.ca_file.as_deref())?;
        let attach = options.servers.iter().map(|server| Attach::new(server, None)).collect();
        let servers = options
            .servers
            .iter()
            .map(|server| Target::new(server, &authorities).map(Arc::new))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            registry,
            servers,
            attach,
            authorities,
            desk: Desk::new(&options),
            sources: Sources::new(options.source_addresses),
            resolver: Resolver::new(waker),
            seats: Vec::new(),
            connections: Connections::default(),
            lingering: Lingering::default(),
            again: Vec::new(),
            again_now: Vec::new(),
            ping: options.client_ping,
            pings: VecDeque::new(),
            events: Vec::new(),
            metrics: Metrics::default(),
        })
    }

    pub(crate) fn set_server(&mut self, id: ServerId, server: &Server) -> Result<(), OptionsError> {
        let target = Target::new(server, &self.authorities)?;
        let servers = self.servers.len();
        let place =
            self.servers.get_mut(id.0 as usize).ok_or(OptionsError::NoServer { id, servers })?;
        *place = Arc::new(target);
        if let Some(attach) = self.attach.get_mut(id.0 as usize) {
            *attach = Attach::new(server, attach.take());
        }
        Ok(())
    }

    pub(crate) fn metrics(&self) -> Metrics {
        Metrics { sockets_closing: self.lingering.len(), ..self.metrics }
    }

    /// How many requests wait for their answers.
    pub(crate) const fn outstanding(&self) -> usize {
        self.metrics.requests_in_flight
    }

    pub(crate) fn events(&mut self) -> &mut Vec<Event> {
        &mut self.events
    }

    /// How long the event queue may be waited for.
    pub(crate) fn wait_at_most(&self, wait: Duration) -> Duration {
        if !self.events.is_empty() || !self.again.is_empty() {
            return Duration::ZERO;
        }
        let ping = self.pings.front().map(|(due, _)| *due);
        let next = [self.lingering.next(), ping].into_iter().flatten().min();
        next.map_or(wait, |due| wait.min(due.saturating_duration_since(Instant::now())))
    }

    /// Takes one command.
    pub(crate) fn command(&mut self, command: Command) {
        let Command { slot, generation, request } = command;
        let index = slot.0 as usize;
        if index >= self.seats.len() {
            self.seats.resize_with(index + 1, Seat::default);
        }
        match request {
            Request::Open { server } => self.open(slot, generation, server),
            Request::Close => {
                self.close(slot);
                self.report(slot, generation, Outcome::Closed);
            }
            request => self.request(slot, generation, &request),
        }
    }

    /// Before the news of a turn: what was left over from the one before.
    pub(crate) fn begin_turn(&mut self) {
        mem::swap(&mut self.again, &mut self.again_now);
        while let Some(key) = self.again_now.pop() {
            self.session_turn(key);
        }
        for (waiting, answer) in self.resolver.answers() {
            for key in waiting {
                self.resolved(key, answer.clone());
            }
        }
    }

    /// Deals with the news of one socket.
    pub(crate) fn turn(&mut self, readiness: &Readiness) {
        let key = Key::from(readiness.token());
        match self.connections.get_mut(key) {
            // A socket that was dropped after the queue was asked.
            None => {}
            Some(Connection::Session(session)) => {
                session.notice(readiness);
                self.session_turn(key);
            }
            Some(Connection::Closing(closing)) => {
                let ended = closing.turn(readiness, &mut self.desk);
                self.metrics.traffic(closing.take_traffic());
                if ended {
                    self.connections.remove(key);
                    self.lingering.ended();
                }
            }
            Some(Connection::Opening(_)) => self.opening_turn(key, readiness),
        }
    }

    /// After the news of a turn: what is due by the clock.
    pub(crate) fn end_turn(&mut self) {
        if self.lingering.is_empty() && self.pings.is_empty() {
            return;
        }
        let now = Instant::now();
        self.lingering.expire(now, &mut self.connections);
        while let Some((_, key)) = self.pings.pop_front_if(|(due, _)| *due <= now) {
            self.ping(key, now);
        }
    }

    fn report(&mut self, slot: Slot, generation: Generation, outcome: Outcome) {
        self.events.push(Event { slot, generation, outcome });
    }

    fn open(&mut self, slot: Slot, generation: Generation, server: ServerId) {
        // An `Open` for a slot that has a session breaks the contract; the new session wins.
        self.close(slot);
        let Some(target) = self.servers.get(server.0 as usize) else {
            let failure =
                Failure::lost(FailureKind::NoServer, format!("there is no server {server}"));
            return self.report(slot, generation, Outcome::Failed(failure));
        };
        let target = Arc::clone(target);
        let attach = match self.attach.get_mut(server.0 as usize) {
            Some(Some(attach)) => match attach.next() {
                Some(id) => Some(id),
                None => {
                    let failure = Failure::lost(
                        FailureKind::NoServer,
                        "every session that was to be attached to has been used, and none is used \
                         twice",
                    );
                    return self.report(slot, generation, Outcome::Failed(failure));
                }
            },
            _ => None,
        };
        let source = self.sources.next(self.metrics.sockets_open + self.metrics.sockets_opening);
        let opening = Opening::new(slot, generation, Arc::clone(&target), source, attach);
        let key = self.connections.insert(Connection::Opening(Box::new(opening)));
        self.seats[slot.0 as usize].connection = Some(key);
        self.metrics.sockets_opening += 1;
        self.resolve(key, &target);
    }

    /// Asks for the addresses of what is to be opened at `key`.
    fn resolve(&mut self, key: Key, target: &Target) {
        let known = match target.address.ip() {
            Some(ip) => Some(Arc::from([ip])),
            None => match self.resolver.ask(target.address.host(), key) {
                Ok(known) => known,
                Err(error) => return self.resolved(key, Err(error.to_string())),
            },
        };
        if let Some(addresses) = known {
            self.resolved(key, Ok(addresses));
        }
    }

    /// A name has its addresses, or none.
    fn resolved(&mut self, key: Key, answer: crate::resolve::Answer) {
        let Some(Connection::Opening(opening)) = self.connections.get_mut(key) else { return };
        let result = match answer {
            Err(reason) => Err(opening.unresolved(&reason)),
            Ok(addresses) => {
                let first = opening.connect(Arc::clone(&addresses), &self.registry, key.into());
                match first {
                    // Sockets that only wait for their servers' goodbye make room.
                    Err(failure)
                        if failure.kind == FailureKind::Limit && !self.lingering.is_empty() =>
                    {
                        self.lingering.clear(&mut self.connections);
                        match self.connections.get_mut(key) {
                            Some(Connection::Opening(opening)) => {
                                opening.connect(addresses, &self.registry, key.into())
                            }
                            _ => Err(failure),
                        }
                    }
                    result => result,
                }
            }
        };
        if let Err(failure) = result {
            self.opening_failed(key, failure);
        }
    }

    fn opening_failed(&mut self, key: Key, failure: Failure) {
        let Some(Connection::Opening(opening)) = self.connections.remove(key) else { return };
        let (slot, generation) = (opening.slot, opening.generation);
        self.metrics.sockets_opening -= 1;
        self.metrics.requests(opening.is_busy(), false);
        self.seats[slot.0 as usize].connection = None;
        self.report(slot, generation, Outcome::Failed(failure));
    }

    fn opening_turn(&mut self, key: Key, readiness: &Readiness) {
        let Some(Connection::Opening(opening)) = self.connections.get_mut(key) else { return };
        let (slot, generation) = (opening.slot, opening.generation);
        let token = Token::from(key);
        let progress =
            opening.turn(readiness, &self.registry, token, &mut self.desk, &mut self.events);
        match progress {
            Progress::Waits => {}
            Progress::Failed(failure) => self.opening_failed(key, failure),
            Progress::Resumed(mut session, turn) => {
                self.metrics.sockets_opening -= 1;
                self.metrics.traffic(session.take_traffic());
                self.metrics.opened();
                self.metrics.requests(true, session.is_busy());
                self.connections.put(key, Connection::Session(session));
                self.settle(key, slot, turn);
            }
            Progress::Stands(mut session, turn) => {
                self.metrics.sockets_opening -= 1;
                self.metrics.traffic(session.take_traffic());
                self.metrics.opened();
                self.connections.put(key, Connection::Session(session));
                match turn {
                    // A refusal that came with the upgrade has answered the command.
                    Turn::Over(_) => self.session_over(key, slot, Over { idle: None }),
                    turn => {
                        self.report(slot, generation, Outcome::Opened);
                        if let Some(interval) = self.ping {
                            self.pings.push_back((Instant::now() + interval, key));
                        }
                        if matches!(turn, Turn::Continues) {
                            self.again.push(key);
                        }
                    }
                }
            }
        }
    }

    /// The connection of a session is gone, and it has a request to make: another.
    fn reconnect(&mut self, key: Key) {
        let Some(Connection::Session(Session::McpHttp(http))) = self.connections.take(key) else {
            return;
        };
        let source = self.sources.next(self.metrics.sockets_open + self.metrics.sockets_opening);
        let target = http.target();
        self.connections.put(key, Connection::Opening(Box::new(Opening::again(http, source))));
        self.metrics.sockets_open -= 1;
        self.metrics.sockets_opening += 1;
        self.resolve(key, &target);
    }

    fn request(&mut self, slot: Slot, generation: Generation, request: &Request) {
        let seat = &mut self.seats[slot.0 as usize];
        let Some(key) = seat.connection else {
            let failure = seat.lost.take().map_or_else(
                || Failure::lost(FailureKind::Disconnected, "the slot has no session"),
                |lost| *lost,
            );
            return self.report(slot, generation, Outcome::Failed(failure));
        };
        let Some(Connection::Session(session)) = self.connections.get_mut(key) else {
            let failure = Failure::kept(FailureKind::Limit, "the session is still being opened");
            return self.report(slot, generation, Outcome::Failed(failure));
        };
        let busy = session.is_busy();
        let turn = session.send(generation, request, &mut self.desk, &mut self.events);
        self.metrics.requests(busy, session.is_busy());
        self.metrics.traffic(session.take_traffic());
        self.settle(key, slot, turn);
    }

    fn session_turn(&mut self, key: Key) {
        let Some(Connection::Session(session)) = self.connections.get_mut(key) else { return };
        let slot = session.slot();
        let busy = session.is_busy();
        let turn = session.turn(&mut self.desk, &mut self.events);
        self.metrics.requests(busy, session.is_busy());
        self.metrics.traffic(session.take_traffic());
        self.settle(key, slot, turn);
    }

    fn ping(&mut self, key: Key, now: Instant) {
        let Some(Connection::Session(session)) = self.connections.get_mut(key) else { return };
        let slot = session.slot();
        let busy = session.is_busy();
        let turn = session.ping(&mut self.desk, &mut self.events);
        self.metrics.requests(busy, session.is_busy());
        self.metrics.traffic(session.take_traffic());
        if let (false, Some(interval)) = (matches!(turn, Turn::Over(_)), self.ping) {
            self.pings.push_back((now + interval, key));
        }
        self.settle(key, slot, turn);
    }

    fn settle(&mut self, key: Key, slot: Slot, turn: Turn) {
        match turn {
            Turn::Waits => {}
            Turn::Continues => self.again.push(key),
            Turn::Reconnects => self.reconnect(key),
            Turn::Over(over) => self.session_over(key, slot, over),
        }
    }

    fn session_over(&mut self, key: Key, slot: Slot, over: Over) {
        self.connections.remove(key);
        self.metrics.sockets_open -= 1;
        let seat = &mut self.seats[slot.0 as usize];
        seat.connection = None;
        seat.lost = over.idle;
    }

    /// Ends what a slot has, whatever it is, without an event.
    fn close(&mut self, slot: Slot) {
        let seat = mem::take(&mut self.seats[slot.0 as usize]);
        let Some(key) = seat.connection else { return };
        match self.connections.take(key) {
            // Dropping a socket takes it off the event queue and cuts it.
            Some(Connection::Opening(opening)) => {
                self.resolver.forget(opening.target().address.host(), key);
                self.metrics.requests(opening.is_busy(), false);
                self.metrics.sockets_opening -= 1;
            }
            Some(Connection::Session(session)) if session.is_busy() => {
                self.metrics.requests(true, false);
                self.metrics.sockets_open -= 1;
            }
            Some(Connection::Session(session)) => {
                self.metrics.sockets_open -= 1;
                match session.close(&mut self.desk) {
                    Ok(None) => {}
                    Ok(Some(closing)) => {
                        self.connections.put(key, Connection::Closing(closing));
                        self.lingering.add(key, Instant::now(), &mut self.connections);
                        return;
                    }
                    Err(error) => tracing::debug!(slot = slot.0, %error, "closed by the server"),
                }
            }
            Some(Connection::Closing(_)) | None => {}
        }
        self.connections.remove(key);
    }
}

impl Opening {
    fn unresolved(&self, reason: &str) -> Failure {
        let host = self.target().address.host();
        Failure::lost(
            FailureKind::NameResolution,
            format!("the name {host} does not resolve: {reason}"),
        )
    }
}
