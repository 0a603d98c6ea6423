//! Steps held back while a busy server builds sessions.
//!
//! A server that answers one request after another (most Python ones) plays no faster for having
//! thousands of steps in its queues, but each new session waits behind all of them, several times
//! over: connection, upgrade and first reset stand in line one after another. Then only as many steps
//! are left with it as keep it busy, the others wait here, first come first served, and sessions are
//! built in a fraction of the time. No work is lost by that, since the server is at its limit anyway.
//!
//! Whether it is, is not taken for granted: the hold goes on only if sessions do come faster with it
//! than before, which is looked at every few seconds, and is tried again ever more rarely where they
//! do not.

use std::{collections::VecDeque, time::Duration};

use envmill_protocol::{Generation, Request, Slot};

use crate::{Core, Outputs, State, Time, Trigger, episode::EpisodeKey, session::Waiting};

/// Never fewer steps are left with the server.
const LEFT_MIN: u32 = 16;
/// How many times over the steps that are left would keep the server busy, by Little's law.
const BUSY_TIMES: f64 = 2.0;
/// So many times faster than before must sessions come for the hold to go on.
const FASTER: f64 = 1.5;
/// How long sessions are counted, at least and at most, before it is judged.
const JUDGED_AFTER: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(5));
/// The pause after a hold that was of no use, at first and at most; it doubles in between.
const PAUSE: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(300));

/// What of one server's steps is held back.
#[derive(Debug, Default)]
pub(crate) struct Holding {
    /// Steps sent and not answered.
    out: u32,
    /// Decided steps in their order. May hold some that have been given up since.
    held: VecDeque<(Slot, Generation)>,
    hold: Option<Hold>,
    /// How long first replies take without one, smoothed.
    first_reply: Duration,
    /// How many sessions are built without one.
    pace: Pace,
    /// No hold is tried before.
    again_at: Time,
    /// The pause after the next one that is of no use.
    pause: Duration,
}

/// Sessions a second, while some wait for theirs at every moment.
#[derive(Debug, Default)]
struct Pace {
    built: u32,
    since: Time,
    /// Of the last second that is over.
    rate: Option<f64>,
}

impl Pace {
    fn count(&mut self, now: Time) {
        self.built += 1;
        let took = now.since(self.since);
        if took >= JUDGED_AFTER.0 {
            let rate = f64::from(self.built) / took.as_secs_f64();
            *self = Self { built: 0, since: now, rate: Some(rate) };
        }
    }

    const fn restart(&mut self, now: Time) {
        *self = Self { built: 0, since: now, rate: None };
    }
}

#[derive(Debug)]
struct Hold {
    /// The most steps left with the server.
    most: u32,
    /// Sessions a second, before it.
    before: f64,
    /// Sessions built and steps answered since the last judgement.
    built: u32,
    answered: u32,
    judged_at: Time,
    judge_at: Time,
}

/// How a server does when a session is admitted on it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    /// How long the session's first reply took.
    pub(crate) first_reply: Duration,
    /// Sessions that still wait for theirs.
    pub(crate) opening: u32,
    /// By how much an answer takes longer than the fastest, if so much that steps mostly wait for each
    /// other.
    pub(crate) queueing: Option<f64>,
    /// What a first reply takes at most where it does not wait for them.
    pub(crate) fast: Duration,
}

impl Holding {
    pub(crate) const fn sent(&mut self) {
        self.out += 1;
    }

    pub(crate) const fn returned(&mut self) {
        self.out -= 1;
        if let Some(hold) = &mut self.hold {
            hold.answered += 1;
        }
    }

    /// A session was admitted. True if a hold begins with it.
    pub(crate) fn built(&mut self, now: Time, load: Load) -> bool {
        if let Some(hold) = &mut self.hold {
            hold.built += 1;
            return false;
        }
        self.first_reply = (self.first_reply * 3 + load.first_reply) / 4;
        if load.opening == 0 {
            self.pace.restart(now);
        } else {
            self.pace.count(now);
        }
        let Some(before) = self.pace.rate else { return false };
        let Some(queueing) = load.queueing.filter(|_| self.first_reply > load.fast) else {
            return false;
        };
        if self.out <= LEFT_MIN || now < self.again_at {
            return false;
        }
        let most = (BUSY_TIMES * f64::from(self.out) / queueing).ceil() as u32;
        self.hold = Some(Hold {
            most: most.max(LEFT_MIN),
            before,
            built: 0,
            answered: 0,
            judged_at: now,
            judge_at: now + self.first_reply.clamp(JUDGED_AFTER.0, JUDGED_AFTER.1),
        });
        self.pace.restart(now);
        true
    }

    /// Whether a step must wait. If so, it has been put in line.
    fn holds(&mut self, slot: Slot, generation: Generation) -> bool {
        let is_full = self.hold.as_ref().is_some_and(|hold| self.out >= hold.most);
        let holds = is_full || !self.held.is_empty();
        if holds {
            self.held.push_back((slot, generation));
        }
        holds
    }

    /// Ends a hold that has done its work or does none. The time of the next look.
    fn judge(&mut self, now: Time, opening: u32) -> Time {
        let Some(hold) = &mut self.hold else { return Time::NEVER };
        if opening == 0 {
            self.hold = None;
            return Time::NEVER;
        }
        if now < hold.judge_at {
            return hold.judge_at;
        }
        let took = now.since(hold.judged_at);
        // Steps that never come back must not keep the others waiting.
        let is_stuck = hold.answered == 0;
        if is_stuck || f64::from(hold.built) < FASTER * hold.before * took.as_secs_f64() {
            self.pause = self.pause.clamp(PAUSE.0, PAUSE.1);
            self.again_at = now + self.pause;
            self.pause *= 2;
            self.pace.restart(now);
            self.hold = None;
            return Time::NEVER;
        }
        self.pause = PAUSE.0;
        (hold.built, hold.answered) = (0, 0);
        (hold.judged_at, hold.judge_at) = (now, now + took);
        hold.judge_at
    }

    /// The next step in line, if it may go now.
    fn next(&mut self) -> Option<(Slot, Generation)> {
        match &self.hold {
            Some(hold) if self.out >= hold.most => None,
            _ => self.held.pop_front(),
        }
    }
}

impl Core {
    /// Sends the step of an episode whose policy has decided, or puts it in line.
    pub(crate) fn step_or_hold(&mut self, slot: Slot, outputs: &mut Outputs) {
        let session = &self.sessions[slot.0 as usize];
        let (server, generation) = (session.server, session.generation);
        let Some(key) = session.episode else { return };
        let Some(episode) = self.episodes[key.0 as usize].as_mut() else { return };
        if self.servers[server.0 as usize].holding.holds(slot, generation) {
            episode.advance(Trigger::Held, &mut self.counts);
            self.timers.set(slot.0, episode.play.deadline.unwrap_or(Time::NEVER));
            return;
        }
        self.send_step(slot, key, outputs);
    }

    fn send_step(&mut self, slot: Slot, key: EpisodeKey, outputs: &mut Outputs) {
        let Some(episode) = self.episodes[key.0 as usize].as_mut() else { return };
        episode.advance(Trigger::StepSent, &mut self.counts);
        let action = episode.play.action.clone();
        self.send(slot, Request::Step { action }, Waiting::Step, outputs);
    }

    /// Sends what may go of the steps in line.
    pub(crate) fn send_held(&mut self, outputs: &mut Outputs) {
        if self.judge_at == Time::NEVER {
            return; // nothing is held
        }
        self.judge_at = Time::NEVER;
        for server in 0..self.servers.len() {
            let known = &mut self.servers[server];
            let judge_at = known.holding.judge(self.now, known.admission.status().opening);
            self.judge_at = self.judge_at.min(judge_at);
            while let Some((slot, generation)) = self.servers[server].holding.next() {
                let session = &self.sessions[slot.0 as usize];
                let key = session.episode.filter(|_| session.generation == generation);
                let Some(key) = key else { continue };
                let Some(episode) = self.episodes[key.0 as usize].as_mut() else { continue };
                if episode.state() == State::Paused {
                    episode.advance(Trigger::Released, &mut self.counts);
                    self.send_step(slot, key, outputs);
                }
            }
        }
    }
}
