//! A slot from its opening to its close: commands, deadlines, and who holds it.

use envmill_protocol::{Command, Phase, Request, ServerId, Slot};

use crate::{
    Core, Outputs, Time, Trigger,
    admission::{Room, Standing},
    episode::{EpisodeKey, Play},
    session::{Session, Waiting},
};

/// A worker that does not answer a close within this time is taken at its silence.
const CLOSE_DEADLINE: std::time::Duration = std::time::Duration::from_secs(10);

impl Core {
    /// Gives a waiting episode its session, which has been opened or is to be.
    pub(crate) fn assign(&mut self, key: EpisodeKey, slot: Slot, outputs: &mut Outputs) {
        let now = self.now;
        let session = &mut self.sessions[slot.0 as usize];
        session.episode = Some(key);
        let Some(episode) = self.episodes[key.0 as usize].as_mut() else { return };
        let job = &mut self.jobs[episode.job];
        job.hold(now);
        episode.play = Play {
            slot: Some(slot),
            server: Some(session.server),
            session_serial: session.serial,
            episode_in_session: session.played,
            began_at: now,
            deadline: job.options.deadlines.episode.map(|episode| now + episode),
            policy_version_started: job.versions.current,
            ..Play::default()
        };
        session.played += 1;
        if session.standing == Standing::Admitted {
            self.send_reset(slot, outputs);
        } else {
            let server = session.server;
            session.opened_at = now;
            episode.advance(Trigger::OpenSent, &mut self.counts);
            self.stand(slot, Standing::Opening);
            self.send(slot, Request::Open { server }, Waiting::Open, outputs);
        }
    }

    pub(crate) fn send_reset(&mut self, slot: Slot, outputs: &mut Outputs) {
        let session = &self.sessions[slot.0 as usize];
        let first = session.standing != Standing::Admitted;
        let (server, key) = (session.server, session.episode);
        let Some(episode) = key.and_then(|key| self.episodes[key.0 as usize].as_mut()) else {
            return;
        };
        episode.play.is_attempt = true;
        self.jobs[episode.job].budget.attempts += 1;
        let parameters = episode.parameters.text.clone();
        episode.advance(Trigger::ResetSent, &mut self.counts);
        let known = &mut self.servers[server.0 as usize];
        known.budget.attempts += 1;
        known.constructing += u32::from(first);
        let waiting = if first { Waiting::FirstReset } else { Waiting::Reset };
        self.send(slot, Request::Reset { parameters }, waiting, outputs);
    }

    pub(crate) fn send(
        &mut self,
        slot: Slot,
        request: Request,
        waiting: Waiting,
        outputs: &mut Outputs,
    ) {
        let session = &mut self.sessions[slot.0 as usize];
        session.generation = session.generation.next();
        session.waiting = waiting;
        session.sent_at = self.now;
        outputs.commands.push(Command { slot, generation: session.generation, request });
        if waiting.is_request() {
            let counts = &mut self.counts;
            counts.requests_in_flight += 1;
            counts.requests_in_flight_peak =
                counts.requests_in_flight_peak.max(counts.requests_in_flight);
            if waiting == Waiting::Step {
                self.servers[session.server.0 as usize].holding.sent();
            }
            self.arm(slot, waiting.phase());
        } else {
            self.timers.set(slot.0, self.now + CLOSE_DEADLINE);
        }
    }

    /// Sets the slot's deadline for `phase`, or the episode's where that is earlier.
    pub(crate) fn arm(&mut self, slot: Slot, phase: Phase) {
        let session = &self.sessions[slot.0 as usize];
        let Some(episode) = session.episode.and_then(|key| self.episodes[key.0 as usize].as_ref())
        else {
            return;
        };
        let limit = self.jobs[episode.job].options.deadlines.of(phase);
        let deadline = limit.map_or(Time::NEVER, |limit| self.now + limit);
        self.timers.set(slot.0, deadline.min(episode.play.deadline.unwrap_or(Time::NEVER)));
    }

    /// Takes the session from its episode. A healthy one is kept for the next where that is
    /// allowed and wanted; otherwise it is closed.
    pub(crate) fn release(&mut self, slot: Slot, healthy: bool, outputs: &mut Outputs) {
        let session = &mut self.sessions[slot.0 as usize];
        let Some(key) = session.episode.take() else {
            return self.close(slot, outputs);
        };
        let (played, server) = (session.played, session.server);
        let usable = healthy
            && session.waiting == Waiting::Nothing
            && self.servers[server.0 as usize].health.is_well()
            && !self.is_crowded(server);
        let Some(episode) = self.episodes[key.0 as usize].as_ref() else { return };
        let options = &self.jobs[episode.job].options;
        if usable && options.session_reuse.allows(played) && self.has_work(options.environment) {
            let environment = options.environment as usize;
            self.timers.set(slot.0, Time::NEVER);
            self.idle[environment].push(slot);
            self.wake_at = Time::ZERO;
        } else {
            self.close(slot, outputs);
        }
    }

    pub(crate) fn has_work(&self, environment: u32) -> bool {
        self.live_jobs().any(|job| {
            job.options.environment == environment && job.ending.is_none() && job.has_work()
        })
    }

    /// Whether another server of the pool holds far fewer sessions and has room: one that was away,
    /// for instance, while the others took over. Sessions then move to it one by one, as their
    /// episodes end.
    fn is_crowded(&self, server: ServerId) -> bool {
        let known = &self.servers[server.0 as usize];
        let occupied = known.admission.occupied();
        if known.admission.status().closing > 0 {
            return false;
        }
        self.pool(known.options.environment).any(|other| {
            let (admission, others) = (&other.admission, other.admission.occupied());
            occupied > others + others / 4 + 2
                && !admission.is_full()
                && other.health.is_well()
                && admission.room(self.now) == Room::Now
        })
    }

    pub(crate) fn close(&mut self, slot: Slot, outputs: &mut Outputs) {
        let session = &mut self.sessions[slot.0 as usize];
        if matches!(session.waiting, Waiting::Free | Waiting::Close) {
            return;
        }
        session.abandoned = session.waiting.is_request() && session.waiting != Waiting::Open;
        session.episode = None;
        self.stop_waiting(slot);
        self.stand(slot, Standing::Closing);
        self.send(slot, Request::Close, Waiting::Close, outputs);
    }

    /// The slot's session is gone.
    pub(crate) fn free(&mut self, slot: Slot) {
        self.stand(slot, Standing::None);
        let session = &mut self.sessions[slot.0 as usize];
        let server = session.server;
        *session = Session { generation: session.generation, ..Session::free() };
        self.free_slots.push(slot);
        self.timers.set(slot.0, Time::NEVER);
        self.counts.sessions -= 1;
        self.probe_gone(server, slot);
        self.wake_at = Time::ZERO;
    }

    pub(crate) fn stand(&mut self, slot: Slot, standing: Standing) {
        let session = &mut self.sessions[slot.0 as usize];
        let before = std::mem::replace(&mut session.standing, standing);
        self.servers[session.server.0 as usize].admission.moved(before, standing);
        self.counts.sessions_admitted += u32::from(standing == Standing::Admitted);
        self.counts.sessions_admitted -= u32::from(before == Standing::Admitted);
        if before == Standing::Opening {
            self.wake_at = Time::ZERO; // the window has room again
        }
    }

    pub(crate) fn on_closed(&mut self, slot: Slot) {
        let session = &self.sessions[slot.0 as usize];
        let (server, abandoned) = (session.server, session.abandoned);
        self.servers[server.0 as usize].admission.closed(self.now, abandoned);
        self.free(slot);
    }
}
