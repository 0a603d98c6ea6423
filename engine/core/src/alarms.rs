//! Deadlines of what has no slot: scores, groups, stragglers.
//!
//! An alarm is never taken back. One that has nothing to say any more is passed over when its time
//! comes, and all of those are swept out whenever they make up more than half.

use std::{cmp::Reverse, collections::BinaryHeap};

use crate::{ScoreTicket, Time};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Alarm {
    /// A score is due.
    Score(ScoreTicket),
    /// A group's deadline: the job and the group.
    Group(usize, u64),
    /// A group that an earlier run has begun may be over: the job and the group.
    TakenUp(usize, u64),
    /// Members of a group may have become stragglers.
    Stragglers(usize, u64),
}

#[derive(Debug, Default)]
pub(crate) struct Alarms {
    heap: BinaryHeap<Reverse<(Time, Alarm)>>,
}

/// Fewer are not worth sweeping.
const SWEEP_MIN: usize = 256;

impl Alarms {
    pub(crate) fn set(&mut self, at: Time, alarm: Alarm) {
        if at < Time::NEVER {
            self.heap.push(Reverse((at, alarm)));
        }
    }

    pub(crate) fn next(&self) -> Time {
        self.heap.peek().map_or(Time::NEVER, |Reverse((at, _))| *at)
    }

    pub(crate) fn pop(&mut self, now: Time) -> Option<Alarm> {
        let Reverse((at, alarm)) = *self.heap.peek()?;
        if at > now {
            return None;
        }
        self.heap.pop();
        Some(alarm)
    }

    /// Whether there are so many that `live` of them would be less than half.
    pub(crate) fn is_crowded(&self, live: usize) -> bool {
        self.heap.len() > SWEEP_MIN.max(2 * live)
    }

    pub(crate) fn sweep(&mut self, is_live: impl Fn(Alarm) -> bool) {
        self.heap.retain(|Reverse((_, alarm))| is_live(*alarm));
    }
}
