//! The peers: lock-step batches and a first-in-first-out stream.

use std::{cmp::Reverse, collections::BinaryHeap};

use crate::groups::{Group, Played, Span, Workload};

/// Batches in lock-step, as synchronous trainers make them: all episodes of a batch are started
/// together, the next batch begins when the last of them has ended and the trainer has published.
#[must_use]
pub fn lock_step(workload: &Workload) -> Played {
    let mut played = Played::default();
    let mut now = 0.0;
    for batch in 0..workload.batches {
        let mut slots = Slots::new(workload.slots, now);
        let groups = batch * workload.batch..(batch + 1) * workload.batch;
        let began = now;
        for group in groups.clone() {
            slots.play(workload, group, &mut played);
        }
        let ended = played.spans.iter().map(|span| span.until).fold(now, f64::max);
        // Nobody looks at a group before the batch is complete.
        played.groups.extend(groups.map(|_| Group { began, held: ended }));
        now = ended + workload.training;
    }
    played
}

/// A stream without a barrier: slots are always busy, episodes are started in the order they were
/// asked for, and groups are handed on in that order, too.
#[must_use]
pub fn first_in_first_out(workload: &Workload) -> Played {
    let mut played = Played::default();
    let mut slots = Slots::new(workload.slots, 0.0);
    let mut handed_on = 0.0_f64;
    for group in 0..workload.groups.len() {
        let first = played.spans.len();
        slots.play(workload, group, &mut played);
        let members = &played.spans[first..];
        let began = members.iter().map(|span| span.from).fold(f64::INFINITY, f64::min);
        let complete = members.iter().map(|span| span.until).fold(0.0, f64::max);
        handed_on = handed_on.max(complete);
        played.groups.push(Group { began, held: handed_on });
    }
    played
}

/// When each slot is free again. Times are positive, so that their bits are ordered as they are.
struct Slots(BinaryHeap<Reverse<u64>>);

impl Slots {
    fn new(slots: usize, now: f64) -> Self {
        Self((0..slots).map(|_| Reverse(now.to_bits())).collect())
    }

    /// Plays a group's members, each on the slot that is free first.
    fn play(&mut self, workload: &Workload, group: usize, played: &mut Played) {
        for member in 0..workload.samples {
            let episode = workload.episode(group, member);
            let from = self.0.pop().map_or(0.0, |Reverse(bits)| f64::from_bits(bits));
            let until = from + episode.seconds();
            self.0.push(Reverse(until.to_bits()));
            let steps = episode.steps.len();
            played.spans.push(Span { from, until, steps, is_cut: false });
        }
    }
}
