//! The trait.

use std::time::Duration;

use envmill_protocol::{Command, Event};

use crate::Waker;

/// Something that steps environments: OpenEnv servers, native code, processes, other machines.
///
/// # Contract
///
/// * Everything submitted since the last look *is* the batch: a worker may reorder the work of
///   different slots and run it in parallel, but treats one slot's commands in their order.
/// * Every command is answered by exactly one event that echoes its slot and generation, except one
///   that a `Close` of its slot overtook, which is never answered. `Close` itself is always answered
///   (by `Closed`), also if the session is already gone.
/// * A session lost while it has no command outstanding is reported once, as `Failed` with the
///   generation of the slot's last command. After any `Failed` whose session is `Lost` the slot
///   counts as closed: the next command must be an `Open` (or a `Close`, which is answered).
/// * A command for a slot without a session fails with `FailureKind::Disconnected`, `Lost`.
/// * Bad input from the other side becomes a `Failure`; nothing that arrives makes a worker panic.
/// * Work per call is bounded by what was submitted and what has arrived.
pub trait Worker: Send {
    /// Takes all commands of the batch, leaving it empty. Never blocks on an environment.
    fn submit(&mut self, batch: &mut Vec<Command>);

    /// Appends the events that have arrived. If there are none, waits until one arrives, until
    /// `wait` has passed or until the [`waker`](Self::waker) is woken, whichever comes first. A wait
    /// of zero only looks.
    ///
    /// May return without events before any of these (a spurious wake-up).
    fn completions(&mut self, events: &mut Vec<Event>, wait: Duration);

    /// A handle that ends a wait in [`completions`](Self::completions), now or, if none is under
    /// way, the next.
    fn waker(&self) -> Waker;
}

impl<W: Worker + ?Sized> Worker for &mut W {
    fn submit(&mut self, batch: &mut Vec<Command>) {
        (**self).submit(batch);
    }

    fn completions(&mut self, events: &mut Vec<Event>, wait: Duration) {
        (**self).completions(events, wait);
    }

    fn waker(&self) -> Waker {
        (**self).waker()
    }
}
