//! The clock that the core is told: the world's own, give or take jumps.

use std::time::Duration;

use envmill_core::Time;

use crate::{ClockPlan, Random};

/// A clock that went backwards for ever would never let a deadline come.
const JUMPS_MAX: u32 = 12;

#[derive(Debug)]
pub(crate) struct Clock {
    plan: ClockPlan,
    /// How far the told clock is ahead of the world's, in nanoseconds.
    ahead: i64,
    jumps: u32,
    /// The sum of the jumps forwards: how much longer than it was something may look.
    pub(crate) jumped: Duration,
}

impl Clock {
    pub(crate) const fn new(plan: ClockPlan) -> Self {
        Self { plan, ahead: 0, jumps: 0, jumped: Duration::ZERO }
    }

    /// What the core is told at the world's `now`.
    pub(crate) const fn told(&self, now: Time) -> Time {
        Time::from_nanos(now.as_nanos().saturating_add_signed(self.ahead))
    }

    /// When, by the world's own clock, the told one shows `told`.
    pub(crate) const fn when(&self, told: Time) -> Time {
        if told.as_nanos() == Time::NEVER.as_nanos() {
            return Time::NEVER;
        }
        Time::from_nanos(told.as_nanos().saturating_add_signed(-self.ahead))
    }

    /// Jumps, and says after how long to jump again.
    pub(crate) fn jump(&mut self, random: &mut Random) -> Option<Duration> {
        self.jumps += 1;
        if random.chance(500) {
            let by = random.up_to(self.plan.forwards_max);
            self.ahead += by.as_nanos() as i64;
            self.jumped += by;
        } else {
            self.ahead -= random.up_to(self.plan.backwards_max).as_nanos() as i64;
        }
        self.next_jump(random)
    }

    pub(crate) fn next_jump(&self, random: &mut Random) -> Option<Duration> {
        let every = self.plan.jump_every.filter(|_| self.jumps < JUMPS_MAX);
        every.map(|every| every / 2 + random.up_to(every))
    }
}
