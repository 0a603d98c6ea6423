//! Answers that are due later.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    time::{Duration, Instant},
};

/// Deadlines are rounded up to this, so that what falls due together is answered together.
const TICK: Duration = Duration::from_millis(1);

/// A heap of deadlines, each with a key. Bounded by its user: at most one entry a command.
#[derive(Debug)]
pub(crate) struct Timers<K> {
    start: Instant,
    heap: BinaryHeap<Reverse<(u64, K)>>,
}

impl<K: Ord + Copy> Timers<K> {
    pub(crate) fn new(start: Instant) -> Self {
        Self { start, heap: BinaryHeap::new() }
    }

    /// Sets a deadline `delay` after `now`, rounded up to the next tick.
    pub(crate) fn set(&mut self, now: Instant, delay: Duration, key: K) {
        let due = now.saturating_duration_since(self.start).saturating_add(delay);
        let tick = due.as_nanos().div_ceil(TICK.as_nanos());
        self.heap.push(Reverse((u64::try_from(tick).unwrap_or(u64::MAX), key)));
    }

    /// The next key that is due at `now`.
    pub(crate) fn due(&mut self, now: Instant) -> Option<K> {
        let Reverse((tick, key)) = *self.heap.peek()?;
        if tick > self.ticks(now) {
            return None;
        }
        self.heap.pop();
        Some(key)
    }

    /// How long until the first deadline; `None` if there is none.
    pub(crate) fn until_next(&self, now: Instant) -> Option<Duration> {
        let Reverse((tick, _)) = self.heap.peek()?;
        let due = Duration::from_millis(*tick);
        Some(due.saturating_sub(now.saturating_duration_since(self.start)))
    }

    /// How many deadlines there are.
    pub(crate) fn len(&self) -> usize {
        self.heap.len()
    }

    /// Forgets the keys for which `keep` is false.
    pub(crate) fn retain(&mut self, keep: impl Fn(&K) -> bool) {
        self.heap.retain(|Reverse((_, key))| keep(key));
    }

    fn ticks(&self, now: Instant) -> u64 {
        let passed = now.saturating_duration_since(self.start).as_millis();
        u64::try_from(passed).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_come_in_order_and_never_early() {
        let start = Instant::now();
        let mut timers = Timers::new(start);
        timers.set(start, Duration::from_micros(2500), 2);
        timers.set(start, Duration::from_micros(300), 1);
        assert_eq!(timers.until_next(start), Some(Duration::from_millis(1)));
        assert_eq!(timers.due(start + Duration::from_micros(999)), None);
        assert_eq!(timers.due(start + Duration::from_millis(1)), Some(1));
        assert_eq!(timers.due(start + Duration::from_micros(2999)), None);
        assert_eq!(timers.due(start + Duration::from_millis(3)), Some(2));
        assert_eq!(timers.until_next(start), None);
    }
}
