//! Events that are not true: of the wrong kind, for another slot, with another generation, or long
//! past.

use std::time::Duration;

use bytes::Bytes;
use envmill_protocol::{Event, Failure, FailureKind, Generation, Outcome, Slot};

use crate::{
    Random,
    ledger::Ledger,
    server::{lost, observed},
};

/// An event that may come beside `truth`, and how much later.
pub(crate) fn beside(truth: &Event, ledger: &Ledger, random: &mut Random) -> (Duration, Event) {
    let mut event = truth.clone();
    let mut after = Duration::ZERO;
    match random.below(5) {
        0 => event.outcome = another_kind(&truth.outcome, random),
        1 => {
            let by = [1, 2, 1_000, u32::MAX, u32::MAX - 1];
            let by = by[random.below(by.len() as u64) as usize];
            event.generation = Generation(truth.generation.0.wrapping_add(by));
        }
        2 => {
            event.slot = Slot(random.below(ledger.slots() + 2) as u32);
            if random.chance(500) {
                event.generation = ledger.generation(event.slot);
                event.outcome = another_kind(&Outcome::State(Bytes::new()), random);
            }
        }
        3 => {
            event.slot = Slot(u32::MAX - random.below(3) as u32);
            event.outcome = another_kind(&truth.outcome, random);
        }
        _ => after = random.up_to(Duration::from_secs(120)),
    }
    (after, event)
}

fn another_kind(true_kind: &Outcome, random: &mut Random) -> Outcome {
    let mut kinds = vec![
        Outcome::Opened,
        Outcome::Reset(observed("{\"lie\":true}".into(), None)),
        Outcome::Stepped(observed("{\"lie\":true}".into(), None)),
        Outcome::State(Bytes::from_static(b"{}")),
        Outcome::ToolResult(Bytes::from_static(b"{}")),
        Outcome::Closed,
        lost(FailureKind::Disconnected, "a lie"),
        Outcome::Failed(Failure::kept(FailureKind::Environment, "a lie")),
    ];
    kinds.retain(|kind| std::mem::discriminant(kind) != std::mem::discriminant(true_kind));
    kinds.swap_remove(random.below(kinds.len() as u64) as usize)
}
