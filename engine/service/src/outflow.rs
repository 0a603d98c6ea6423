//! What is on its way to one trainer's socket.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
};

use envmill_delivery::{ConsumerId, JobKey};
use envmill_wire::DriveResponse;
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tonic::Status;

use crate::hub::{Address, StreamId, Word};

/// A socket's progress is told when so many bytes have gone, or when there is nothing to send.
const TOLD_EVERY: u64 = 256 << 10;

/// What the hub puts messages into. How many there are is bounded: records by the window of the
/// delivery, or of the ring in which they lie, answers by the requests that a stream may have outstanding, and news, which nobody needs
/// all of, by [`is_behind`](Self::is_behind).
#[derive(Debug)]
pub(crate) struct Outbox {
    sender: mpsc::UnboundedSender<Outgoing>,
    waiting: Arc<AtomicUsize>,
}

/// So many messages that wait are many.
const MANY: usize = 256;

#[derive(Debug)]
struct Outgoing {
    what: Result<DriveResponse, Status>,
    /// What of a delivery's window it takes until it has gone.
    taken: Option<Taken>,
}

/// Bytes of a consumer's window.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Taken {
    pub(crate) job: JobKey,
    pub(crate) consumer: ConsumerId,
    pub(crate) bytes: u64,
}

impl Outbox {
    pub(crate) fn send(&self, response: impl Into<wire::Response>) {
        self.put(Ok(DriveResponse { response: Some(response.into()) }), None);
    }

    pub(crate) fn deliver(&self, delivery: wire::Delivery, taken: Option<Taken>) {
        let response = Some(wire::Response::Delivery(delivery));
        self.put(Ok(DriveResponse { response }), taken);
    }

    /// Ends the stream.
    pub(crate) fn end(&self, status: Status) {
        self.put(Err(status), None);
    }

    /// Whether so much waits that news had better not be added.
    pub(crate) fn is_behind(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > MANY
    }

    fn put(&self, what: Result<DriveResponse, Status>, taken: Option<Taken>) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        // A stream that has gone is told to the hub by itself.
        let _ = self.sender.send(Outgoing { what, taken });
    }
}

mod wire {
    pub(super) use envmill_wire::{Delivery, drive_response::Response};
}

/// The stream of messages that the socket takes from, one when it has room for one.
#[derive(Debug)]
pub(crate) struct Outflow {
    receiver: mpsc::UnboundedReceiver<Outgoing>,
    waiting: Arc<AtomicUsize>,
    hub: Address,
    stream: StreamId,
    /// What has gone and was not told.
    untold: Vec<Taken>,
    untold_bytes: u64,
    is_over: bool,
}

/// A new stream's two ends.
pub(crate) fn outflow(hub: Address, stream: StreamId) -> (Outbox, Outflow) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let waiting = Arc::<AtomicUsize>::default();
    let outbox = Outbox { sender, waiting: Arc::clone(&waiting) };
    let untold = Vec::new();
    (outbox, Outflow { receiver, waiting, hub, stream, untold, untold_bytes: 0, is_over: false })
}

impl Outflow {
    fn note(&mut self, taken: Taken) {
        self.untold_bytes += taken.bytes;
        let same = self.untold.last_mut().filter(|it| it.consumer == taken.consumer);
        match same {
            Some(same) => same.bytes += taken.bytes,
            None => self.untold.push(taken),
        }
    }

    fn tell(&mut self) {
        if self.untold_bytes > 0 {
            self.untold_bytes = 0;
            self.hub.tell(Word::Taken(std::mem::take(&mut self.untold)));
        }
    }
}

#[cfg(feature = "fuzzing")]
impl Outflow {
    /// Everything that waits.
    pub(crate) fn drained(&mut self) -> Vec<wire::Response> {
        let all = std::iter::from_fn(|| self.receiver.try_recv().ok());
        all.filter_map(|outgoing| outgoing.what.ok()?.response).collect()
    }
}

impl Stream for Outflow {
    type Item = Result<DriveResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        let next = self.receiver.poll_recv(context);
        if next.is_pending() || self.untold_bytes >= TOLD_EVERY {
            self.tell();
        }
        let Some(outgoing) = ready!(next) else {
            self.is_over = true;
            return Poll::Ready(None);
        };
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        if let Some(taken) = outgoing.taken {
            self.note(taken);
        }
        self.is_over = outgoing.what.is_err();
        Poll::Ready(Some(outgoing.what))
    }
}

impl Drop for Outflow {
    fn drop(&mut self) {
        self.hub.tell(Word::Closed(self.stream));
    }
}
