//! Which records a consumer has given back, and how far the producer may reuse the ring.
//!
//! The consumer has a cell for each record of the window; record `s` has cell `s % window`. Giving it
//! back stores `s + 1` there, which no other record does: nothing has to be cleared, a store may be
//! repeated, and the order does not matter. Since at most `window` records are out, no two of them
//! share a cell. The producer looks at the cell of its oldest record, and reuses the ring up to the
//! first that is still out.

use std::collections::VecDeque;

use crate::protocol::{self, Load, Store};

/// Gives record `sequence` back in its cell.
pub(super) fn release(cell: &impl Store, sequence: u64) {
    // Release: all reads of the record come before the producer sees it given back.
    protocol::release(cell, sequence.wrapping_add(1));
}

/// Whether record `sequence` was given back in its cell.
pub(super) fn is_released(cell: &impl Load, sequence: u64) -> bool {
    // Acquire: the writes that reuse the record's bytes come after the consumer's reads.
    protocol::acquire(cell) == sequence.wrapping_add(1)
}

/// The records that are out, oldest first.
#[derive(Debug)]
pub(super) struct Tail {
    /// Up to where the ring may be reused.
    position: u64,
    /// The number of the oldest record that is out.
    sequence: u64,
    /// Where each record that is out ends; at most the window's.
    ends: VecDeque<u64>,
}

impl Tail {
    pub(super) const fn new() -> Self {
        Self { position: 0, sequence: 0, ends: VecDeque::new() }
    }

    /// Up to where the ring may be reused.
    pub(super) const fn position(&self) -> u64 {
        self.position
    }

    /// How many records are out.
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Takes note of the next record, which ends at `end`.
    pub(super) fn push(&mut self, end: u64) {
        self.ends.push_back(end);
    }

    /// Moves up to the first record that was not given back.
    pub(super) fn advance(&mut self, mut is_released: impl FnMut(u64) -> bool) {
        while let Some(end) = self.ends.front().copied() {
            if !is_released(self.sequence) {
                return;
            }
            self.ends.pop_front();
            self.position = end;
            self.sequence = self.sequence.wrapping_add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_stops_at_the_oldest_record_that_is_out() {
        let mut tail = Tail::new();
        for end in [64, 192, 256] {
            tail.push(end);
        }
        tail.advance(|sequence| sequence == 1);
        assert_eq!((tail.position(), tail.len()), (0, 3));
        tail.advance(|sequence| sequence < 2);
        assert_eq!((tail.position(), tail.len()), (192, 1));
        tail.advance(|_| true);
        assert_eq!((tail.position(), tail.len()), (256, 0));
    }
}

/// All interleavings, and all values that a weak memory may let each thread see.
#[cfg(all(test, loom))]
mod loom_tests {
    use loom::{
        sync::{Arc, atomic::AtomicU64},
        thread,
    };

    use super::{Tail, is_released, release};
    use crate::loom_words::Guarded;

    const WINDOW: u64 = 2;

    /// A ring of two records of 64 bytes, and the cells in which they are given back.
    struct Log {
        records: [Guarded; WINDOW as usize],
        cells: [AtomicU64; WINDOW as usize],
    }

    /// Two records are out and are given back by two threads, in any order; the producer writes two
    /// more where they were.
    #[test]
    fn loom_a_record_is_reused_only_after_it_was_given_back() {
        loom::model(|| {
            let log = Arc::new(Log {
                records: [Guarded::new(), Guarded::new()],
                cells: [AtomicU64::new(0), AtomicU64::new(0)],
            });
            let mut tail = Tail::new();
            for sequence in 0..WINDOW {
                log.records[sequence as usize].write(sequence);
                tail.push((sequence + 1) * 64);
            }
            let leases: Vec<_> = (0..WINDOW)
                .map(|sequence| {
                    let log = Arc::clone(&log);
                    thread::spawn(move || {
                        assert_eq!(log.records[sequence as usize].read(), sequence);
                        release(&log.cells[sequence as usize], sequence);
                    })
                })
                .collect();
            let mut next = WINDOW;
            while next < 2 * WINDOW {
                tail.advance(|sequence| {
                    is_released(&log.cells[(sequence % WINDOW) as usize], sequence)
                });
                if (tail.len() as u64) < WINDOW {
                    assert!(next * 64 < tail.position() + WINDOW * 64);
                    log.records[(next % WINDOW) as usize].write(next);
                    next += 1;
                    tail.push(next * 64);
                } else {
                    thread::yield_now();
                }
            }
            for lease in leases {
                lease.join().unwrap();
            }
        });
    }
}
