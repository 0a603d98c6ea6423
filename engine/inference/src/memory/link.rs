//! The task that writes what waits, and reads what is answered.

use std::sync::{
    Arc,
    atomic::{Ordering, fence},
};

use envmill_protocol::PolicyVersion;
use envmill_ring::Received;

use crate::{Error, ErrorKind};

use super::{
    desk::{Delivery, Desk},
    layout::WAITS,
    meeting::{Met, meet},
    requests::{self, Filled},
    results::{Results, broken},
};

/// Works until the connection is lost, or nobody needs it any more.
pub(super) async fn drive(desk: Arc<Desk>) {
    let error = match meet(&desk.options).await {
        Ok(met) => Link::new(met).work(&desk).await,
        Err(error) => Err(error),
    };
    match error {
        Ok(()) => {}
        Err(error) => {
            tracing::debug!("{error}");
            desk.lose(&error);
        }
    }
}

struct Link {
    met: Met,
    results: Results,
    scratch: Vec<u8>,
    deliveries: Vec<Delivery>,
}

impl Link {
    fn new(met: Met) -> Self {
        Self { met, results: Results::default(), scratch: Vec::new(), deliveries: Vec::new() }
    }

    async fn work(&mut self, desk: &Desk) -> Result<(), Error> {
        loop {
            self.read(desk)?;
            self.write(desk)?;
            {
                let mut papers = desk.papers();
                if papers.closed && papers.is_empty() {
                    papers.driven = false;
                    return Ok(());
                }
            }
            let Met { bell, bell_watch, channel, channel_watch, message, .. } = &mut self.met;
            tokio::select! {
                () = desk.wake.notified() => {
                    // Whoever asks for one generation asks for more: let them, and all are one batch.
                    tokio::task::yield_now().await;
                }
                ready = bell_watch.readable() => {
                    let mut ready = ready.map_err(lost)?;
                    // Before the counters are looked at: what comes later rings again.
                    bell.drain().map_err(lost)?;
                    ready.clear_ready();
                }
                ready = channel_watch.readable() => {
                    let mut ready = ready.map_err(lost)?;
                    match channel.receive(message).map_err(lost)? {
                        Received::Nothing => ready.clear_ready(),
                        Received::Closed => return Err(lost("vLLM has hung up")),
                        Received::Message => return Err(lost("the plug-in says what is not understood")),
                    }
                }
            }
        }
    }

    /// Writes all that waits and has room, as few batches.
    fn write(&mut self, desk: &Desk) -> Result<(), Error> {
        let Met { writer, their_bell, .. } = &mut self.met;
        loop {
            let mut papers = desk.papers();
            while papers.waiting.front().is_some() {
                let Some(order) = papers.waiting.pop_front() else { break };
                if papers.is_wanted(&order) {
                    papers.waiting.push_front(order);
                    break;
                }
            }
            if papers.waiting.is_empty() || !requests::begin(writer).map_err(lost)? {
                return Ok(());
            }
            let Some(mut batch) = writer.begin().map_err(lost)? else { return Ok(()) };
            let mut filled = Filled::default();
            while let Some(order) = papers.waiting.pop_front() {
                if !papers.is_wanted(&order) {
                    continue;
                }
                if !filled.has_room_for(&order, &desk.options) {
                    papers.waiting.push_front(order);
                    break;
                }
                filled.write(&mut batch, &order, &mut self.scratch).map_err(lost)?;
                papers.written(&order);
            }
            drop(papers);
            let published = batch.publish(filled.rows).map_err(lost)?;
            debug_assert!(published.overflow.is_empty(), "what does not fit is not written");
            their_bell.ring().map_err(lost)?;
        }
    }

    /// Reads all that is answered.
    fn read(&mut self, desk: &Desk) -> Result<(), Error> {
        let Self { met: Met { reader, their_bell, .. }, results, deliveries, .. } = self;
        // Not for ever, if the plug-in is faster: what waits is written in between.
        for _ in 0..reader.layout().slots() {
            let Some(batch) = reader.next_batch().map_err(|it| broken(&it))? else { return Ok(()) };
            results.read(&batch).map_err(|it| broken(&it))?;
            let version = PolicyVersion(desk.version.load(Ordering::Acquire));
            let mut papers = desk.papers();
            for row in 0..batch.rows() {
                let (number, told) = results.row(&batch, row, version)?;
                deliveries.extend(papers.route(number, told));
            }
            drop(papers);
            batch.release();
            // See `requests::begin`.
            fence(Ordering::SeqCst);
            if reader.peer_state() == WAITS {
                their_bell.ring().map_err(lost)?;
            }
            for delivery in deliveries.drain(..) {
                delivery.deliver();
            }
        }
        // There may be more.
        desk.wake.notify_one();
        Ok(())
    }
}

fn lost(error: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Lost, error.to_string())
}
