//! The servers of the pool and their sessions.

use std::time::Duration;

use envmill_core::{Admission, Random, Room, Standing, Time};
use envmill_protocol::{
    Command, Event, Failure, FailureKind, Outcome, Phase, Request, ServerId, Slot,
};

use super::{
    Options,
    session::{Asking, Link, Session},
};

/// How long a session stays idle before it is closed: a server that sees nobody for long may think so
/// itself, and others may want its place.
const IDLE_MAX: Duration = Duration::from_secs(20);

pub(super) struct Pool {
    options: Options,
    servers: Vec<Server>,
    sessions: Vec<Session>,
    free: Vec<Slot>,
    /// Sessions without a client, the last left one last.
    idle: Vec<Slot>,
    /// Sessions with something under way, idle ones, and those that are being closed.
    in_use: usize,
    random: Random,
    /// When there may be room, though no event comes.
    wake_at: Time,
}

struct Server {
    url: String,
    admission: Admission,
}

impl Pool {
    pub(super) fn new(urls: Vec<String>, options: &Options) -> Self {
        let server = |url| {
            let mut admission = Admission::new(options.admission);
            admission.serve(&options.deadlines);
            Server { url, admission }
        };
        Self {
            options: *options,
            servers: urls.into_iter().map(server).collect(),
            sessions: Vec::new(),
            free: Vec::new(),
            idle: Vec::new(),
            in_use: 0,
            random: Random::new(0),
            wake_at: Time::NEVER,
        }
    }

    /// The session that an event is of, unless it is of an earlier command.
    pub(super) fn session(&self, event: &Event) -> Option<&Session> {
        let session = self.sessions.get(event.slot.0 as usize)?;
        let is_its = session.generation == event.generation && session.link != Link::Free;
        is_its.then_some(session)
    }

    /// Whether time alone may change something.
    pub(super) const fn has_deadlines(&self) -> bool {
        self.in_use > 0
    }

    pub(super) const fn wake_at(&self) -> Time {
        self.wake_at
    }

    /// A session for a client whose first request this is: an idle one, which only a reset makes anew,
    /// or one of the least occupied server that has room. The request is on its way with it.
    pub(super) fn give(
        &mut self,
        seat: Slot,
        asking: &Asking,
        now: Time,
        commands: &mut Vec<Command>,
    ) -> Option<Slot> {
        let is_reset = matches!(asking.request, Request::Reset { .. });
        if is_reset && let Some(slot) = self.idle.pop() {
            let session = &mut self.sessions[slot.0 as usize];
            session.seat = Some(seat);
            session.first = Some(asking.clone());
            self.send(slot, asking.request.clone(), now, commands);
            return Some(slot);
        }
        let Some(server) = self.choose(now) else {
            if !is_reset && !self.idle.is_empty() {
                // It would serve a reset, and stands in the way of everything else.
                let slot = self.idle.remove(0);
                self.close(slot, commands);
            }
            return None;
        };
        let slot = self.free.pop().unwrap_or_else(|| {
            self.sessions.push(Session::default());
            Slot(u32::try_from(self.sessions.len() - 1).unwrap_or(u32::MAX))
        });
        self.in_use += 1;
        let session = &mut self.sessions[slot.0 as usize];
        *session = Session {
            generation: session.generation,
            server,
            link: Link::Connecting,
            seat: Some(seat),
            opened_at: now,
            first: Some(asking.clone()),
            ..Session::default()
        };
        self.stand(slot, Standing::Opening);
        self.command(slot, Request::Open { server }, now, commands);
        Some(slot)
    }

    fn choose(&mut self, now: Time) -> Option<ServerId> {
        self.wake_at = Time::NEVER;
        let mut best: Option<(u32, usize)> = None;
        for (number, server) in self.servers.iter().enumerate() {
            match server.admission.room(now) {
                Room::Now => {
                    let candidate = (server.admission.occupied(), number);
                    best = Some(best.map_or(candidate, |best| best.min(candidate)));
                }
                Room::At(at) => self.wake_at = self.wake_at.min(at),
                Room::AfterAnswer => {}
            }
        }
        best.map(|(_, number)| ServerId(u32::try_from(number).unwrap_or(u32::MAX)))
    }

    fn stand(&mut self, slot: Slot, standing: Standing) {
        let session = &mut self.sessions[slot.0 as usize];
        let admission = &mut self.servers[session.server.0 as usize].admission;
        admission.moved(std::mem::replace(&mut session.standing, standing), standing);
    }

    fn admission(&mut self, slot: Slot) -> &mut Admission {
        let server = self.sessions[slot.0 as usize].server;
        &mut self.servers[server.0 as usize].admission
    }

    fn command(&mut self, slot: Slot, request: Request, now: Time, commands: &mut Vec<Command>) {
        let session = &mut self.sessions[slot.0 as usize];
        session.generation = session.generation.next();
        session.sent_at = now;
        commands.push(Command { slot, generation: session.generation, request });
    }

    /// Sends a client's request on.
    pub(super) fn send(
        &mut self,
        slot: Slot,
        request: Request,
        now: Time,
        commands: &mut Vec<Command>,
    ) {
        let session = &mut self.sessions[slot.0 as usize];
        let phase = match request {
            _ if session.standing == Standing::Opening => Phase::FirstReset,
            Request::Reset { .. } => Phase::Reset,
            _ => Phase::Step,
        };
        session.link = Link::Asked(phase);
        self.command(slot, request, now, commands);
    }

    /// The connection stands: the request that it was made for goes out.
    pub(super) fn opened(&mut self, slot: Slot, now: Time, commands: &mut Vec<Command>) {
        let session = &self.sessions[slot.0 as usize];
        if session.link != Link::Connecting {
            return;
        }
        if let Some(first) = &session.first {
            let request = first.request.clone();
            self.send(slot, request, now, commands);
        }
    }

    /// A request was answered, and the session is still there.
    pub(super) fn answered(&mut self, slot: Slot, outcome: &Outcome, now: Time) {
        let session = &mut self.sessions[slot.0 as usize];
        let Link::Asked(phase) = session.link else { return };
        session.link = Link::Ready;
        session.first = None;
        session.played += u32::from(matches!(outcome, Outcome::Reset(_)));
        session.is_spoilt |= matches!(outcome, Outcome::Failed(_));
        let took = now.since(session.sent_at);
        let opening = now.since(session.opened_at);
        if session.standing == Standing::Opening {
            self.stand(slot, Standing::Admitted);
            if self.admission(slot).admitted(now, opening) {
                tracing::info!(url = self.url(slot), "the server answers again");
            }
        } else if phase == Phase::Step {
            self.admission(slot).stepped(now, took);
        } else {
            self.admission(slot).answered(now, took);
        }
    }

    fn url(&self, slot: Slot) -> &str {
        &self.servers[self.sessions[slot.0 as usize].server.0 as usize].url
    }

    /// A session is gone. Gives back the request of its client if no environment has seen it, or if it
    /// was a reset of a session that had gone unnoticed.
    pub(super) fn lost(&mut self, slot: Slot, failure: &Failure, now: Time) -> Option<Asking> {
        let session = &mut self.sessions[slot.0 as usize];
        let first = session.first.take();
        let (link, standing) = (session.link, session.standing);
        self.stand(slot, Standing::None);
        let again = match standing {
            Standing::Opening => self.refused(slot, failure, now) || link == Link::Connecting,
            standing => {
                if standing == Standing::Admitted {
                    self.admission(slot).lost(now);
                }
                // `first` is there only before the first answer to this client.
                !self.options.production
                    && matches!(link, Link::Asked(Phase::Reset))
                    && matches!(
                        failure.kind,
                        FailureKind::Disconnected
                            | FailureKind::Expired
                            | FailureKind::Closed { .. }
                    )
            }
        };
        self.idle.retain(|&idle| idle != slot);
        self.release(slot);
        first.filter(|_| again)
    }

    /// An opening did not lead to a session; whether that was for want of room.
    fn refused(&mut self, slot: Slot, failure: &Failure, now: Time) -> bool {
        let server = self.sessions[slot.0 as usize].server.0 as usize;
        let Server { url, admission } = &mut self.servers[server];
        if failure.kind == FailureKind::Capacity {
            if let Some(limit) = admission.refused(now, failure.clone(), &mut self.random) {
                tracing::info!(url, limit, "the server has no room for more sessions");
            }
            return true;
        }
        if admission.open_failed(now, failure.clone(), &mut self.random) {
            tracing::warn!(url, %failure, "the server gives no sessions");
        }
        false
    }

    fn release(&mut self, slot: Slot) {
        let session = &mut self.sessions[slot.0 as usize];
        *session = Session { generation: session.generation, ..Session::default() };
        self.free.push(slot);
        self.in_use -= 1;
    }

    /// Its client has gone.
    pub(super) fn leave(&mut self, slot: Slot, now: Time, commands: &mut Vec<Command>) {
        let session = &mut self.sessions[slot.0 as usize];
        session.seat = None;
        session.first = None;
        let is_well = session.link == Link::Ready && !session.is_spoilt && session.played > 0;
        if is_well && self.options.reuse().allows(session.played) {
            session.sent_at = now;
            self.idle.push(slot);
        } else {
            self.close(slot, commands);
        }
    }

    fn close(&mut self, slot: Slot, commands: &mut Vec<Command>) {
        let session = &mut self.sessions[slot.0 as usize];
        session.is_abandoned = matches!(session.link, Link::Asked(_));
        session.link = Link::Closing;
        session.seat = None;
        session.generation = session.generation.next();
        let generation = session.generation;
        commands.push(Command { slot, generation, request: Request::Close });
        self.stand(slot, Standing::Closing);
    }

    pub(super) fn closed(&mut self, slot: Slot, now: Time) {
        let is_abandoned = self.sessions[slot.0 as usize].is_abandoned;
        self.stand(slot, Standing::None);
        self.admission(slot).closed(now, is_abandoned);
        self.release(slot);
    }

    /// Closes what has taken too long. Clients that waited for it: for what, and their request where no
    /// environment has seen it.
    pub(super) fn cut_late(
        &mut self,
        now: Time,
        commands: &mut Vec<Command>,
    ) -> Vec<(Slot, Phase, Option<Asking>)> {
        let mut cut = Vec::new();
        for index in 0..self.sessions.len() {
            let session = &self.sessions[index];
            let slot = Slot(u32::try_from(index).unwrap_or(u32::MAX));
            let since = now.since(session.sent_at);
            match session.link.phase() {
                Some(phase) if self.options.limit(phase).is_some_and(|limit| since >= limit) => {
                    let (seat, first) = (session.seat, session.first.clone());
                    if session.standing == Standing::Opening {
                        let failure = super::late(phase, self.options.limit(phase));
                        self.refused(slot, &failure, now);
                    }
                    self.close(slot, commands);
                    let first = first.filter(|_| phase == Phase::Connect);
                    cut.extend(seat.map(|seat| (seat, phase, first)));
                }
                None if session.link == Link::Ready
                    && session.seat.is_none()
                    && since >= IDLE_MAX =>
                {
                    self.idle.retain(|&idle| idle != slot);
                    self.close(slot, commands);
                }
                _ => {}
            }
        }
        cut
    }

    /// Why waiting leads to nothing, if no server will ever give a session.
    pub(super) fn hopeless(&self) -> Option<Failure> {
        let is_hopeless = self.servers.iter().all(|server| server.admission.is_hopeless());
        let last = self.servers.iter().find_map(|server| {
            server.admission.last_failure().map(|failure| (&server.url, failure))
        });
        let (url, failure) = last.filter(|_| is_hopeless)?;
        Some(Failure::lost(failure.kind, format!("{url}: {}", failure.message)))
    }

    /// Why nothing was given within the time.
    pub(super) fn no_room(&self, waited: Duration) -> Failure {
        let down = self.servers.iter().find(|server| server.admission.status().down);
        let are_all_down = self.servers.iter().all(|server| server.admission.status().down);
        match down.filter(|_| are_all_down) {
            Some(Server { url, admission }) => {
                let why = admission.last_failure().map(ToString::to_string).unwrap_or_default();
                let message = format!("no server answered within {waited:?}; {url}: {why}");
                Failure::lost(FailureKind::Unreachable, message)
            }
            None => {
                let message = format!("no server of the pool had room within {waited:?}");
                Failure::lost(FailureKind::Capacity, message)
            }
        }
    }
}
