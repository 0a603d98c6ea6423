//! The servers, with the worker that speaks to them: what becomes of a command.

use std::time::Duration;

use bytes::Bytes;
use envmill_core::Time;
use envmill_protocol::{Ended, Failure, FailureKind, Generation, Observed, Outcome, Reward, Slot};

use crate::{Random, ServerPlan};

/// An answer, and after how long it comes.
pub(crate) type Answer = (Duration, Outcome);

#[derive(Debug)]
pub(crate) struct Servers {
    plans: Vec<ServerPlan>,
    states: Vec<Server>,
    /// By slot.
    sessions: Vec<Option<Session>>,
    serial: u64,
    plays: u64,
}

#[derive(Clone, Debug, Default)]
struct Server {
    is_away: bool,
    held: usize,
    held_peak: usize,
    /// Until when its processor is busy with what it has taken on.
    busy_until: Time,
}

#[derive(Debug)]
struct Session {
    server: usize,
    serial: u64,
    generation: Generation,
    is_constructed: bool,
    /// Numbers the episodes of all sessions.
    play: u64,
    steps: u64,
    steps_left: u64,
}

impl Servers {
    pub(crate) fn new(plans: Vec<ServerPlan>) -> Self {
        let states = vec![Server::default(); plans.len()];
        Self { plans, states, sessions: Vec::new(), serial: 0, plays: 0 }
    }

    pub(crate) fn plan(&self, server: usize) -> &ServerPlan {
        &self.plans[server]
    }

    pub(crate) const fn len(&self) -> usize {
        self.plans.len()
    }

    /// The most sessions that a server has held.
    pub(crate) fn held_peak(&self) -> Vec<usize> {
        self.states.iter().map(|server| server.held_peak).collect()
    }

    /// Sessions that the servers hold now.
    pub(crate) fn held(&self) -> usize {
        self.states.iter().map(|server| server.held).sum()
    }

    /// The slots with an open session, and what its last command was.
    pub(crate) fn open_slots(&self) -> impl Iterator<Item = (usize, Slot, Generation)> {
        self.sessions.iter().enumerate().filter_map(|(slot, session)| {
            session.as_ref().map(|it| (it.server, Slot(slot as u32), it.generation))
        })
    }

    /// The server of the slot's session.
    pub(crate) fn of(&self, slot: Slot) -> Option<usize> {
        self.sessions.get(slot.0 as usize)?.as_ref().map(|session| session.server)
    }

    /// Remembers the generation of the slot's last command.
    pub(crate) fn took(&mut self, slot: Slot, generation: Generation) {
        if let Some(Some(session)) = self.sessions.get_mut(slot.0 as usize) {
            session.generation = generation;
        }
    }

    /// Takes a server away. Its sessions are gone; their slots and last generations come back.
    pub(crate) fn crash(&mut self, server: usize, now: Time) -> Vec<(Slot, Generation)> {
        let lost: Vec<(Slot, Generation)> = self
            .open_slots()
            .filter(|(of, _, _)| *of == server)
            .map(|(_, slot, generation)| (slot, generation))
            .collect();
        for (slot, _) in &lost {
            self.sessions[slot.0 as usize] = None;
        }
        let state = &mut self.states[server];
        state.is_away = true;
        state.held = 0;
        state.busy_until = now;
        lost
    }

    pub(crate) fn come_back(&mut self, server: usize) {
        self.states[server].is_away = false;
    }

    /// Ends a session without its client's doing. False if there is none.
    pub(crate) fn lose(&mut self, slot: Slot) -> bool {
        let session = self.sessions.get_mut(slot.0 as usize).and_then(Option::take);
        if let Some(session) = &session {
            self.states[session.server].held -= usize::from(session.is_constructed);
        }
        session.is_some()
    }

    /// How much slower than usual the server is now.
    fn slowness(&self, server: usize, now: Time) -> u32 {
        let since_start = now.since(Time::ZERO);
        let spells = &self.plans[server].spells;
        let mut current =
            spells.iter().filter(|it| it.from <= since_start && since_start < it.until);
        current.next().map_or(1, |spell| spell.slower.max(1))
    }

    /// Puts work on the server's processor: how long until it is done.
    fn compute(&mut self, server: usize, work: Duration, now: Time) -> Duration {
        let work = work * self.slowness(server, now);
        let state = &mut self.states[server];
        state.busy_until = state.busy_until.max(now) + work;
        state.busy_until.since(now)
    }

    pub(crate) fn open(
        &mut self,
        slot: Slot,
        server: usize,
        now: Time,
        random: &mut Random,
    ) -> Option<Answer> {
        let plan = &self.plans[server];
        let turn = self.states[server].busy_until.since(now);
        let connect = plan.shape.draw(plan.connect, random) * self.slowness(server, now)
            + turn * plan.connect_turns;
        if self.states[server].is_away {
            return Some((connect, lost(FailureKind::Unreachable, "connection refused")));
        }
        if random.chance(plan.refuse) {
            let mut failure = Failure::lost(FailureKind::UpgradeRefused { status: 503 }, "busy");
            failure.retry_after = Some(Duration::from_millis(random.below(500)));
            return Some((connect, Outcome::Failed(failure)));
        }
        if random.chance(plan.hang_connect) {
            return None;
        }
        if self.sessions.len() <= slot.0 as usize {
            self.sessions.resize_with(slot.0 as usize + 1, || None);
        }
        self.serial += 1;
        self.sessions[slot.0 as usize] = Some(Session {
            server,
            serial: self.serial,
            generation: Generation(0),
            is_constructed: false,
            play: 0,
            steps: 0,
            steps_left: 0,
        });
        Some((connect, Outcome::Opened))
    }

    pub(crate) fn reset(&mut self, slot: Slot, now: Time, random: &mut Random) -> Option<Answer> {
        let Some(Some(session)) = self.sessions.get(slot.0 as usize) else { return Some(gone()) };
        let (server, first) = (session.server, !session.is_constructed);
        let plan = self.plans[server].clone();
        if first && self.states[server].held >= plan.capacity {
            self.lose(slot);
            return Some((Duration::from_micros(100), lost(FailureKind::Capacity, "full")));
        }
        if random.chance(plan.hang_reset) {
            return None;
        }
        let mut took = if first { plan.construct } else { plan.step };
        took = plan.shape.draw(took, random) * self.slowness(server, now);
        let work = if first { plan.processor_construct } else { plan.processor };
        took += self.compute(server, work, now);
        if first && random.chance(plan.factory) {
            self.lose(slot);
            return Some((took, lost(FailureKind::Factory, "cannot construct")));
        }
        self.plays += 1;
        let play = self.plays;
        let Some(Some(session)) = self.sessions.get_mut(slot.0 as usize) else {
            return Some(gone());
        };
        if first {
            session.is_constructed = true;
            let state = &mut self.states[server];
            state.held += 1;
            state.held_peak = state.held_peak.max(state.held);
        }
        if random.chance(plan.raise_reset) {
            let failure = Failure::kept(FailureKind::Environment, "an exception at reset");
            return Some((took, Outcome::Failed(failure)));
        }
        session.play = play;
        session.steps = 0;
        session.steps_left = random.between(1, plan.episode_steps);
        let ended = random.chance(plan.stillborn).then_some(Ended::Terminated);
        let seen = format!("{{\"session\":{},\"play\":{play},\"step\":0}}", session.serial);
        Some((took, Outcome::Reset(observed(seen, ended))))
    }

    pub(crate) fn step(
        &mut self,
        slot: Slot,
        action: &Bytes,
        now: Time,
        random: &mut Random,
    ) -> Option<Answer> {
        let Some(Some(session)) = self.sessions.get_mut(slot.0 as usize) else {
            return Some(gone());
        };
        session.steps += 1;
        session.steps_left = session.steps_left.saturating_sub(1);
        let (server, is_over) = (session.server, session.steps_left == 0);
        let seen = format!(
            "{{\"session\":{},\"play\":{},\"step\":{},\"after\":{}}}",
            session.serial,
            session.play,
            session.steps,
            String::from_utf8_lossy(action)
        );
        let plan = &self.plans[server];
        let mut took = plan.shape.draw(plan.step, random);
        if random.chance(10) {
            took *= plan.tail;
        }
        let is_truncated = is_over && random.chance(plan.truncate);
        let (hangs, cuts) = (random.chance(plan.hang), random.chance(plan.cut));
        let raises = random.chance(plan.raise);
        took *= self.slowness(server, now);
        took += self.compute(server, self.plans[server].processor, now);
        if hangs {
            return None;
        }
        if cuts {
            self.lose(slot);
            let kinds = [
                FailureKind::Disconnected,
                FailureKind::Closed { code: 1006 },
                FailureKind::Session,
                FailureKind::Protocol,
                FailureKind::Unreachable,
            ];
            let kind = kinds[random.below(kinds.len() as u64) as usize];
            return Some((took, lost(kind, "cut")));
        }
        if raises {
            let failure = Failure::kept(FailureKind::Environment, "an exception");
            return Some((took, Outcome::Failed(failure)));
        }
        let ended = match (is_over, is_truncated) {
            (false, _) => None,
            (true, true) => Some(Ended::Truncated),
            (true, false) => Some(Ended::Terminated),
        };
        Some((took, Outcome::Stepped(observed(seen, ended))))
    }

    pub(crate) fn close(&mut self, slot: Slot, random: &mut Random) -> Option<Answer> {
        let session = self.sessions.get(slot.0 as usize).and_then(Option::as_ref);
        let hang = session.map_or(0, |session| self.plans[session.server].hang_close);
        self.lose(slot);
        (!random.chance(hang)).then_some((Duration::from_micros(50), Outcome::Closed))
    }
}

fn gone() -> Answer {
    (Duration::ZERO, lost(FailureKind::Disconnected, "no such session"))
}

pub(crate) fn lost(kind: FailureKind, message: &str) -> Outcome {
    Outcome::Failed(Failure::lost(kind, message))
}

pub(crate) fn observed(seen: String, ended: Option<Ended>) -> Observed {
    Observed {
        observation: seen.into(),
        reward: Reward { value: Some(1.0), raw: Bytes::from_static(b"1.0") },
        metadata: Bytes::new(),
        ended,
    }
}
