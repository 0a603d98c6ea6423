//! On which server a new session goes.
//!
//! The least occupied server that has room. In a pool of few servers all are looked at: the core knows
//! every occupancy exactly, so nothing is better. In a larger one two are drawn and the less occupied
//! is taken, which is nearly as even (the fullest server stays within a few sessions of the mean) and
//! costs the same for a pool of any size. Only when neither has room are all looked at.

use envmill_protocol::{ServerId, Slot};

use crate::{
    Core, Outputs, Time,
    admission::Room,
    ejection::Trust,
    session::{Session, Waiting},
};

/// In pools of up to so many servers, every server is looked at.
const SCAN_MAX: usize = 8;

impl Core {
    /// An idle session of the job's pool, or a slot for a new one. Not on the server `avoid` if there
    /// is another.
    pub(crate) fn find_session(
        &mut self,
        job: usize,
        avoid: Option<ServerId>,
        outputs: &mut Outputs,
    ) -> Option<Slot> {
        let environment = self.jobs[job].options.environment as usize;
        let reuse = self.jobs[job].options.session_reuse;
        let mut avoided = None;
        while let Some(slot) = self.idle[environment].pop() {
            if !self.is_idle_session(slot) {
                continue;
            }
            let session = &self.sessions[slot.0 as usize];
            if !reuse.allows(session.played) {
                self.close(slot, outputs);
            } else if avoided.is_none() && avoid == Some(session.server) {
                avoided = Some(slot);
            } else {
                self.idle[environment].extend(avoided);
                return Some(slot);
            }
        }
        let server = self.choose_server(environment, avoid);
        if self.counts.sessions >= self.options.slots_max || server.is_none() {
            return avoided; // or a slot that gets free wakes us
        }
        self.idle[environment].extend(avoided);
        let server = server? as usize;
        let slot = self.free_slots.pop().unwrap_or_else(|| {
            self.sessions.push(Session::free());
            Slot(self.sessions.len() as u32 - 1)
        });
        let session = &mut self.sessions[slot.0 as usize];
        session.server = ServerId(server as u32);
        session.serial = self.session_serial;
        self.session_serial += 1;
        self.servers[server].health.session_given(slot);
        let counts = &mut self.counts;
        counts.sessions += 1;
        counts.sessions_peak = counts.sessions_peak.max(counts.sessions);
        Some(slot)
    }

    /// Whether a job could have a session now.
    pub(crate) fn has_session_for(&mut self, job: usize) -> bool {
        let options = &self.jobs[job].options;
        let (environment, reuse) = (options.environment as usize, options.session_reuse);
        let mut idle = self.idle[environment].iter();
        let is_usable = |slot: &Slot| {
            self.is_idle_session(*slot) && reuse.allows(self.sessions[slot.0 as usize].played)
        };
        idle.any(is_usable)
            || self.counts.sessions < self.options.slots_max
                && self.choose_server(environment, None).is_some()
    }

    pub(crate) fn is_idle_session(&self, slot: Slot) -> bool {
        let session = &self.sessions[slot.0 as usize];
        session.waiting == Waiting::Nothing && session.episode.is_none()
    }

    /// The server of the pool that is to get the next session; `None` if none has room.
    fn choose_server(&mut self, environment: usize, avoid: Option<ServerId>) -> Option<u32> {
        let pool = self.pools[environment].len();
        if pool > SCAN_MAX && avoid.is_none() {
            let mut draw = || {
                let at = (self.random.draw() % pool as u64) as usize;
                self.pools[environment][at]
            };
            let drawn = [draw(), draw()];
            let with_room = drawn.into_iter().filter(|&server| self.room(server) == Room::Now);
            let best = with_room.min_by_key(|&server| self.occupied(server));
            if best.is_some() {
                return best;
            }
        }
        // Whether the server is the one to be avoided, how occupied it is, and which it is.
        let mut best: Option<(bool, u32, u32)> = None;
        for at in 0..pool {
            let server = self.pools[environment][at];
            match self.room(server) {
                Room::Now => {
                    let candidate =
                        (avoid == Some(ServerId(server)), self.occupied(server), server);
                    best = Some(best.map_or(candidate, |best| best.min(candidate)));
                }
                Room::At(at) => self.wake_at = self.wake_at.min(at),
                Room::AfterAnswer => {}
            }
        }
        best.map(|(_, _, server)| server)
    }

    fn room(&self, server: u32) -> Room {
        let server = &self.servers[server as usize];
        match server.health.trust() {
            Trust::Well => server.admission.room(self.now),
            Trust::Ejected { until } if self.now < until => Room::At(until),
            Trust::Ejected { .. } => server.admission.room(self.now),
            Trust::Probed { .. } => Room::AfterAnswer,
        }
    }

    fn occupied(&self, server: u32) -> u32 {
        self.servers[server as usize].admission.occupied()
    }

    /// When the core must look again for room for a waiting episode.
    pub(crate) fn wake(&mut self) {
        self.wake_at = Time::ZERO;
    }
}
