//! A trainer that has a ring: its end of the socket, and its doorbell.

use std::{
    io,
    os::fd::AsFd as _,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use envmill_delivery::ConsumerId;
use envmill_ring::{Channel, Doorbell, LogWriter, Message, Received, wait};
use envmill_wire::meeting::READY;

use super::{RingId, RingNews};
use crate::hub::{Address, Word};

/// Where a trainer has so many records, it has something to do while what it gives back gathers: each of them
/// alone would wake this thread, the hub, the journal, the connection and the trainer's.
const MANY: usize = 16;

/// For how long it gathers.
const GATHER: Duration = Duration::from_millis(2);

/// A trainer that was given a ring.
pub(super) struct Guest {
    pub(super) consumer: ConsumerId,
    pub(super) ring: RingId,
    pub(super) writer: LogWriter,
    pub(super) channel: Channel,
    pub(super) bell: Doorbell,
}

/// A ring whose trainer is there. Dropping it closes the socket.
#[derive(Debug)]
pub(crate) struct OpenRing {
    pub(crate) writer: LogWriter,
    wish: Arc<Wish>,
}

/// What the hub wants of the thread that watches a trainer.
#[derive(Debug)]
struct Wish {
    bell: Doorbell,
    /// What is given back may gather.
    is_patient: AtomicBool,
    is_over: AtomicBool,
}

impl OpenRing {
    /// Wants to be told when something is given back from here on, or was since it was told last.
    pub(crate) fn wish(&self) {
        let is_patient = self.writer.outstanding() >= MANY;
        // The bell orders it before what the other thread reads.
        self.wish.is_patient.store(is_patient, Ordering::Relaxed);
        if let Err(error) = self.wish.bell.ring() {
            tracing::error!(%error, "a ring's own doorbell does not ring");
        }
    }
}

impl Drop for OpenRing {
    fn drop(&mut self) {
        self.wish.is_over.store(true, Ordering::Release);
        self.wish();
    }
}

/// Passes the ring to the hub, and watches the trainer until it or the hub does not want it any more.
pub(super) fn watch(guest: Guest, hub: &Address) {
    let Guest { consumer, ring, mut writer, channel, bell } = guest;
    let tell = |news| hub.tell(Word::Ring(consumer, ring, news));
    let wish = match Doorbell::new() {
        Ok(bell) => {
            let (is_patient, is_over) = Default::default();
            Arc::new(Wish { bell, is_patient, is_over })
        }
        Err(error) => return tracing::warn!(%error, "a trainer gets no ring"),
    };
    if let Err(error) = writer.populate() {
        tracing::warn!(%error, "there is no memory for a trainer's ring");
        return tell(RingNews::Gone);
    }
    tell(RingNews::Open(OpenRing { writer, wish: Arc::clone(&wish) }));
    // The hub hears of the ring before the trainer does: whatever the trainer says on its stream after this
    // is said to a hub that has the ring.
    match channel.send(READY, &[]) {
        Ok(true) => {
            if let Err(error) = wait_on(&channel, &bell, &wish, || tell(RingNews::Freed)) {
                tracing::warn!(%error, "a trainer's ring is given up");
            }
        }
        Ok(false) => tracing::info!("a trainer does not listen, and gets no ring"),
        Err(error) => tracing::info!(%error, "a trainer gets no ring"),
    }
    tell(RingNews::Gone);
}

/// Until somebody does not want it any more. Each wish is answered once, after a ring of the trainer's bell
/// that was not told yet: what came before the wish is still in the bell's counter.
fn wait_on(
    channel: &Channel,
    bell: &Doorbell,
    wish: &Wish,
    mut tell: impl FnMut(),
) -> io::Result<()> {
    let (mut ready, mut message) = (Vec::new(), Message::new());
    let mut is_wished = false;
    loop {
        let all = [channel.as_fd(), wish.bell.as_fd(), bell.as_fd()];
        // A bell that nobody wants to hear may ring.
        let watched = if is_wished { &all[..] } else { &all[..2] };
        wait(watched, None, &mut ready)?;
        if wish.bell.drain()? {
            is_wished = true;
        }
        let is_over = wish.is_over.load(Ordering::Acquire);
        // Nothing is to be said any more: whatever is heard is the end.
        if is_over || !matches!(channel.receive(&mut message), Ok(Received::Nothing)) {
            return Ok(());
        }
        if ready.contains(&2) && wish.is_patient.load(Ordering::Relaxed) {
            // Ends early when either has something to say, which is looked at in the next turn.
            wait(&all[..2], Some(GATHER), &mut ready)?;
            ready.push(2);
        }
        if ready.contains(&2) && bell.drain()? {
            is_wished = false;
            tell();
        }
    }
}
