//! Trajectories that go to a trainer through shared memory.
//!
//! The hub asks itself for each delivery whether its consumer has a ring, and copies the record into it;
//! what goes on the stream then says where it lies. That copy is all: the hub never waits for a ring.
//!
//! # A ring that is full
//!
//! What finds no room is held, and what comes after it for the same consumer behind it, so that the order
//! stays what the delivery made it. All else goes on: other consumers, other jobs of the same stream,
//! and answers to requests. The latter matters, since a trainer may well wait for an acknowledgement to be
//! done before it gives a record back.
//!
//! * *It is bounded.* What is held was sent, for the delivery, and was not taken by a socket. So it counts
//!   for the consumer's window, and when that is full nothing more is lined up: some MiB are held, or of
//!   batches, which are lined up as a whole, a share. Payloads behind it stay in the journal, and episodes
//!   pause when much waits, as they do for a slow socket.
//! * *Nothing is slept through.* When something is held the ring is [wished](OpenRing::wish) for. A trainer
//!   rings after it has given something back; the task that watches drains the bell after it was wished
//!   for and then tells the hub, which looks at the ring again. A ring of the bell that comes between
//!   the hub's look and the wish is still in the bell's counter. Nobody polls.
//! * *It does not lock up.* A record takes at most half of the ring, so that an empty one has room, and
//!   one that is larger goes on the stream. A trainer that keeps what it was given for longer than the
//!   service's patience has the rest on the stream, too, until there is room again.
//! * *Nothing is lost.* When the ring goes, what is held goes on the stream; when the consumer goes, it is
//!   owed to the next one, like everything that was not acknowledged.
//!
//! What is acknowledged while it is held (it was delivered before, and comes again) is not sent.

use std::{
    collections::{HashMap, VecDeque},
    ops::RangeInclusive,
    path::PathBuf,
    time::{Duration, Instant},
};

use bytes::Bytes;
use envmill_delivery::{ConsumerId, JobKey, Output};
use envmill_ring::{LogLayout, LogWriter};
use envmill_wire::{
    self as wire,
    drive_response::Response,
    layout::{IMAGE_OFFSET, Plan},
    meeting::{TOKEN_BYTES_MAX, TOKEN_BYTES_MIN},
};
use tonic::Code;

use super::{Hub, StreamId, requests::Answer};
use crate::{
    refusal::Refusal,
    rings::{Expected, Lobby, OpenRing, RingId, RingNews},
};

/// Rings are this many bytes or a multiple.
const PAGE: u64 = 4096;
/// The records of a ring where the trainer does not say.
const RECORDS: u32 = 1024;

/// The rings of all consumers.
#[derive(Debug)]
pub(crate) struct Rings {
    lobby: Lobby,
    /// Where trainers come for them; `None` if they cannot.
    socket: Option<PathBuf>,
    bytes_max: u64,
    next: u64,
    rings: HashMap<ConsumerId, Ring>,
}

/// A consumer's ring, from when it was asked for on.
#[derive(Debug)]
struct Ring {
    id: RingId,
    bytes: u64,
    open: Option<OpenRing>,
    /// What waits for room, in order.
    held: VecDeque<Output>,
    /// Since when nothing has found room in it, if something waits for that.
    full_since: Option<Instant>,
    /// What finds no room does not wait for it.
    is_stuck: bool,
}

impl Ring {
    fn new(id: RingId, bytes: u64) -> Self {
        let held = VecDeque::new();
        Self { id, bytes, open: None, held, full_since: None, is_stuck: false }
    }
}

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Put {
    /// It lies in the ring under this number.
    In(u64),
    /// There is no room for now.
    Full,
    /// There is no ring, or none with room for it ever: it goes on the stream.
    Never,
}

impl Rings {
    pub(crate) fn new(lobby: Lobby, socket: Option<PathBuf>, bytes_max: u64) -> Self {
        Self { lobby, socket, bytes_max, next: 0, rings: HashMap::new() }
    }

    /// A consumer is gone, and with it its ring and what is held for it.
    pub(super) fn forget(&mut self, consumer: ConsumerId) {
        if self.rings.remove(&consumer).is_some() {
            self.lobby.forget(consumer);
        }
    }

    /// Bytes of all rings.
    pub(super) fn bytes(&self) -> u64 {
        self.rings.values().map(|ring| ring.bytes).sum()
    }

    /// Whether something is held for a consumer, so that all that follows is.
    pub(super) fn holds(&self, consumer: ConsumerId) -> bool {
        self.rings.get(&consumer).is_some_and(|ring| !ring.held.is_empty())
    }

    /// Holds something at the end of what is held, or at its beginning where it was taken out.
    fn hold(&mut self, consumer: ConsumerId, output: Output, is_first: bool) {
        let Some(ring) = self.rings.get_mut(&consumer) else { return };
        if is_first {
            ring.held.push_front(output);
            ring.full_since.get_or_insert_with(Instant::now);
            if let Some(open) = &ring.open {
                open.wish();
            }
        } else {
            ring.held.push_back(output);
        }
    }

    /// Copies an encoded trajectory into a consumer's ring.
    pub(super) fn put(&mut self, consumer: ConsumerId, payload: &Bytes) -> Put {
        let Some(ring) = self.rings.get_mut(&consumer) else { return Put::Never };
        let Some(open) = &mut ring.open else { return Put::Never };
        let put = put(&mut open.writer, payload);
        match put {
            Put::In(_) => (ring.full_since, ring.is_stuck) = (None, false),
            Put::Full if ring.is_stuck => return Put::Never,
            Put::Full | Put::Never => {}
        }
        put
    }

    /// The consumers of rings that have been full for too long.
    fn stuck(&mut self, patience: Duration) -> Vec<ConsumerId> {
        let mut stuck = Vec::new();
        for (&consumer, ring) in &mut self.rings {
            if ring.full_since.is_some_and(|since| since.elapsed() >= patience) {
                (ring.full_since, ring.is_stuck) = (None, true);
                stuck.push(consumer);
            }
        }
        stuck
    }

    /// Expects a consumer at the door, in place of the ring that it may have.
    fn expect(
        &mut self,
        consumer: ConsumerId,
        it: &wire::UseSharedMemory,
    ) -> Result<(String, LogLayout), Refusal> {
        let Some(socket) = self.socket.as_ref().and_then(|socket| socket.to_str()) else {
            return Err(Refusal::state("the engine shares no memory"));
        };
        if !(TOKEN_BYTES_MIN..=TOKEN_BYTES_MAX).contains(&it.token.len()) {
            let problem =
                format!("token: it must have {TOKEN_BYTES_MIN} to {TOKEN_BYTES_MAX} bytes");
            return Err(Refusal::argument(problem));
        }
        let before = self.rings.get(&consumer).map_or(0, |ring| ring.bytes);
        let left = self.bytes_max.saturating_sub(self.bytes() - before);
        let bytes = it.ring_bytes.max(1).checked_next_multiple_of(PAGE);
        let bytes = bytes.filter(|&bytes| bytes <= left).ok_or_else(|| {
            Refusal::new(
                Code::ResourceExhausted,
                format!("ring_bytes: {left} are left of the {} that are shared", self.bytes_max),
            )
        })?;
        let records = if it.records == 0 { RECORDS } else { it.records };
        let layout = LogLayout::new(bytes, records)
            .map_err(|error| Refusal::argument(format!("ring_bytes, records: {error}")))?;
        let id = RingId(self.next);
        let expected = Expected { consumer, ring: id, layout: layout.clone() };
        self.lobby.forget(consumer);
        if !self.lobby.expect(&it.token, expected) {
            return Err(Refusal::new(Code::AlreadyExists, "token: it is not random"));
        }
        self.next += 1;
        let before = self.rings.insert(consumer, Ring::new(id, bytes));
        if let (Some(before), Some(ring)) = (before, self.rings.get_mut(&consumer)) {
            ring.held = before.held;
        }
        Ok((socket.to_owned(), layout))
    }

    /// The ring with this id, if it is still the consumer's.
    fn get(&mut self, consumer: ConsumerId, id: RingId) -> Option<&mut Ring> {
        self.rings.get_mut(&consumer).filter(|ring| ring.id == id)
    }
}

fn put(writer: &mut LogWriter, payload: &Bytes) -> Put {
    let Ok(plan) = Plan::of(payload.clone()) else { return Put::Never };
    let Some(length) = plan.bytes().checked_add(IMAGE_OFFSET) else { return Put::Never };
    match writer.begin(length, 0) {
        Ok(Some(mut record)) => {
            let (before, image) = record.bytes().split_at_mut(IMAGE_OFFSET);
            before.fill(0);
            plan.write(image);
            Put::In(record.publish())
        }
        Ok(None) => Put::Full,
        Err(_) => Put::Never,
    }
}

impl Hub {
    /// A trainer wants a ring.
    pub(super) fn use_shared_memory(
        &mut self,
        stream: StreamId,
        request_id: u64,
        it: &wire::UseSharedMemory,
    ) -> Result<Answer, Refusal> {
        let (_, attachment) = self.attachment(stream, &it.job_id)?;
        let Some(its) = self.streams.get(&stream).filter(|its| its.is_local) else {
            return Err(Refusal::state(
                "memory is shared over loopback only: the stream comes from elsewhere",
            ));
        };
        let (socket, layout) = self.rings.expect(attachment.consumer, it)?;
        its.outbox.send(Response::SharedMemory(wire::SharedMemory {
            request_id,
            job_id: it.job_id.clone(),
            socket,
            ring_bytes: layout.ring_bytes(),
            records: layout.window(),
        }));
        // What was held for an earlier ring has none now.
        self.go_on(attachment.consumer);
        Ok(Answer::Own)
    }

    pub(super) fn on_ring(&mut self, consumer: ConsumerId, id: RingId, news: RingNews) {
        // Of a ring that was replaced, or whose consumer has gone, nothing matters.
        let Some(ring) = self.rings.get(consumer, id) else { return };
        match news {
            RingNews::Open(open) => ring.open = Some(open),
            RingNews::Freed => {}
            RingNews::Gone => ring.open = None,
        }
        self.go_on(consumer);
        if self.rings.get(consumer, id).is_some_and(|ring| ring.open.is_none()) {
            self.rings.forget(consumer);
        }
    }

    /// What has waited too long for room in a ring goes on the stream.
    pub(super) fn lose_patience(&mut self) {
        for consumer in self.rings.stuck(self.options.ring_patience) {
            if let Some((_, job_id)) = self.consumer(consumer) {
                tracing::info!(
                    job = job_id,
                    "a trainer keeps its records; others go on the stream"
                );
            }
            self.go_on(consumer);
        }
    }

    /// Sends something in its order: now, or when there is room for what is held before it.
    pub(super) fn send_in_order(&mut self, consumer: ConsumerId, output: Output) {
        if self.rings.holds(consumer) {
            self.rings.hold(consumer, output, false);
        } else if let Some(output) = self.send_now(output) {
            self.rings.hold(consumer, output, true);
        }
    }

    /// Sends what is held and has room.
    fn go_on(&mut self, consumer: ConsumerId) {
        loop {
            let ring = self.rings.rings.get_mut(&consumer);
            let Some(first) = ring.and_then(|ring| ring.held.pop_front()) else { return };
            if let Some(first) = self.send_now(first) {
                self.rings.hold(consumer, first, true);
                return;
            }
        }
    }

    /// What was acknowledged need not be sent any more.
    pub(super) fn drop_held(&mut self, job: JobKey, acknowledged: &[RangeInclusive<u64>]) {
        for (&consumer, ring) in &mut self.rings.rings {
            if self.consumers.get(&consumer).is_none_or(|&(_, key)| key != job) {
                continue;
            }
            ring.held.retain(|output| {
                let Output::Send(sent) = output else { return true };
                let is_over = acknowledged.iter().any(|range| range.contains(&sent.number.0));
                if is_over {
                    // Its consumer is attached.
                    let _ = self.delivery.taken(job, consumer, sent.bytes);
                }
                !is_over
            });
        }
    }
}
