//! Deadlines of slots, cheap to move.
//!
//! A step moves its slot's deadline every few microseconds, almost always to a later time. So a slot
//! keeps one entry in the heap and its true deadline outside: an entry that comes up early is put
//! back at the true deadline. Moving a deadline later costs nothing, and the heap holds about one
//! entry a slot.

use std::{cmp::Reverse, collections::BinaryHeap};

use crate::Time;

#[derive(Debug, Default)]
pub(crate) struct Timers {
    heap: BinaryHeap<Reverse<(Time, u32)>>,
    slots: Vec<Entry>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    /// The true deadline.
    deadline: Time,
    /// The earliest entry of this slot in the heap; `NEVER` if there is none.
    armed: Time,
}

impl Timers {
    /// Sets the slot's deadline; `NEVER` takes it away.
    pub(crate) fn set(&mut self, slot: u32, deadline: Time) {
        let index = slot as usize;
        if self.slots.len() <= index {
            self.slots.resize(index + 1, Entry { deadline: Time::NEVER, armed: Time::NEVER });
        }
        let entry = &mut self.slots[index];
        entry.deadline = deadline;
        if deadline < entry.armed {
            entry.armed = deadline;
            self.heap.push(Reverse((deadline, slot)));
        }
    }

    /// No later than the next deadline (an entry may come up early and be put back).
    pub(crate) fn next(&self) -> Time {
        self.heap.peek().map_or(Time::NEVER, |Reverse((at, _))| *at)
    }

    /// A slot whose deadline has passed; its deadline is taken away.
    pub(crate) fn pop(&mut self, now: Time) -> Option<u32> {
        while let Some(&Reverse((at, slot))) = self.heap.peek() {
            if at > now {
                return None;
            }
            self.heap.pop();
            let entry = &mut self.slots[slot as usize];
            if entry.armed != at {
                continue; // an earlier entry of this slot took over
            }
            entry.armed = Time::NEVER;
            if entry.deadline <= now {
                entry.deadline = Time::NEVER;
                return Some(slot);
            }
            if entry.deadline < Time::NEVER {
                entry.armed = entry.deadline;
                self.heap.push(Reverse((entry.deadline, slot)));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(nanos: u64) -> Time {
        Time::from_nanos(nanos)
    }

    #[test]
    fn a_deadline_moved_later_fires_once_at_its_time() {
        let mut timers = Timers::default();
        for step in 0..1_000 {
            timers.set(3, at(100 + step));
        }
        assert_eq!(timers.heap.len(), 1);
        assert_eq!(timers.pop(at(1_098)), None);
        assert_eq!(timers.pop(at(1_099)), Some(3));
        assert_eq!(timers.pop(at(10_000)), None);
    }

    #[test]
    fn a_deadline_moved_earlier_fires_early_and_once() {
        let mut timers = Timers::default();
        timers.set(0, at(100));
        timers.set(0, at(50));
        assert_eq!(timers.next(), at(50));
        assert_eq!(timers.pop(at(60)), Some(0));
        timers.set(0, at(200));
        assert_eq!(timers.pop(at(150)), None);
        assert_eq!(timers.pop(at(200)), Some(0));
        assert_eq!(timers.pop(at(1_000)), None);
    }

    #[test]
    fn a_removed_deadline_never_fires() {
        let mut timers = Timers::default();
        timers.set(7, at(5));
        timers.set(7, Time::NEVER);
        assert_eq!(timers.pop(at(100)), None);
        assert_eq!(timers.next(), Time::NEVER);
    }
}
