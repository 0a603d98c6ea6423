//! Carrying out what the delivery wants done.

use bytes::Bytes;
use envmill_core::Round;
use envmill_delivery::{ConsumerId, Content, JobKey, Kind, Output, Sent};
use envmill_wire::{self as wire, drive_response::Response, part};

use super::{Hub, StreamId, rings::Put};
use crate::{
    Order,
    outflow::{Outbox, Taken},
};

/// What is said when what was done before it is on disk.
#[derive(Debug)]
pub(crate) enum Promise {
    /// To a stream.
    Say(StreamId, Box<Response>),
    /// To the player of a job: the next round of its tasks.
    Round(JobKey, Round),
}

impl Hub {
    pub(super) fn carry_out(&mut self) {
        loop {
            let outputs = self.delivery.outputs();
            if outputs.is_empty() {
                return;
            }
            for output in outputs {
                self.carry_out_one(output);
            }
        }
    }

    fn carry_out_one(&mut self, output: Output) {
        match output {
            Output::Send(Sent { consumer, .. })
            | Output::Batch { consumer, .. }
            | Output::NoMoreBatches(consumer) => self.send_in_order(consumer, output),
            Output::Load { job, sequence } => self.scribe.read(job, sequence),
            // The hub keeps its promises itself: a stream may leave a job before they are due.
            Output::Replaced(consumer) => {
                let Some((stream, key)) = self.unseat(consumer) else { return };
                let Some(stream) = self.streams.get_mut(&stream) else { return };
                stream.attached.remove(&key);
                if let Some(job) = self.jobs.get(&key) {
                    let job_id = job.id.clone();
                    stream.outbox.send(Response::Replaced(wire::Replaced { job_id }));
                }
            }
            Output::Pace { job: key, pace } => {
                if let Some(job) = self.jobs.get_mut(&key) {
                    job.pace = pace;
                    self.pace(key);
                }
            }
            Output::Settled(key) => {
                if let Some(job) = self.jobs.get_mut(&key) {
                    job.settled_at = Some(std::time::Instant::now());
                    let settled = wire::Settled { job_id: job.id.clone() };
                    self.tell_job(key, &Response::Settled(settled));
                }
            }
        }
    }

    /// Says something when what was done so far is on disk.
    pub(super) fn promise(&mut self, stream: StreamId, response: Response) {
        self.promises.push(Promise::Say(stream, Box::new(response)));
    }

    pub(super) fn keep_promises(&self, promises: Vec<Promise>) {
        for promise in promises {
            match promise {
                Promise::Say(stream, response) => {
                    if let Some(stream) = self.streams.get(&stream) {
                        stream.outbox.send(*response);
                    }
                }
                Promise::Round(key, round) => self.order(key, Order::Round(round)),
            }
        }
    }

    pub(super) fn consumer(&self, consumer: ConsumerId) -> Option<(&Outbox, String)> {
        let (stream, key) = self.consumers.get(&consumer)?;
        let job_id = self.jobs.get(key)?.id.clone();
        Some((&self.streams.get(stream)?.outbox, job_id))
    }

    /// Forgets a consumer, and says whose it was.
    pub(super) fn unseat(&mut self, consumer: ConsumerId) -> Option<(StreamId, JobKey)> {
        self.rings.forget(consumer);
        self.consumers.remove(&consumer)
    }

    /// Puts what goes to a consumer in order into its stream's outbox. Gives back what finds no room in
    /// the consumer's ring.
    pub(super) fn send_now(&mut self, output: Output) -> Option<Output> {
        match output {
            Output::Send(sent) => return self.send(sent).map(Output::Send),
            Output::Batch { consumer, index, items, is_short } => {
                if let Some((outbox, job_id)) = self.consumer(consumer) {
                    outbox.send(Response::Batch(wire::Batch {
                        job_id,
                        index,
                        deliveries: items,
                        short: is_short,
                    }));
                }
            }
            Output::NoMoreBatches(consumer) => {
                if let Some((outbox, job_id)) = self.consumer(consumer) {
                    outbox.send(Response::NoMoreBatches(wire::NoMoreBatches { job_id }));
                }
            }
            _ => {}
        }
        None
    }

    fn send(&mut self, sent: Sent) -> Option<Sent> {
        let place = match (&sent.content, sent.kind) {
            (Content::Payload(payload), Kind::Trajectory) => self.rings.put(sent.consumer, payload),
            _ => Put::Never,
        };
        if place == Put::Full {
            return Some(sent);
        }
        let Sent { consumer, job, bytes, kind, .. } = sent;
        if let Put::In(_) = place {
            // No socket has to take it, and the next one can be lined up.
            let _ = self.delivery.taken(job, consumer, bytes);
        }
        let (outbox, job_id) = self.consumer(consumer)?;
        let taken = Some(Taken { job, consumer, bytes });
        let counted = match (&sent.content, sent.is_redelivered) {
            (_, true) => &self.metrics.redelivered,
            (Content::Stale, false) => &self.metrics.stale,
            (Content::Payload(_), false) => &self.metrics.delivered,
        };
        counted.inc();
        let delivery = wire::Delivery {
            number: sent.number.0,
            redelivered: sent.is_redelivered,
            group_id: sent.group,
            version: Some(version(sent.version)),
            judged_at: Some(version(sent.judged_at)),
            index: sent.id,
            content: None,
            job_id,
        };
        if let Put::In(sequence) = place {
            self.metrics.in_memory.inc();
            let content = Some(wire::Content::InMemory(wire::InMemory { sequence, bytes }));
            outbox.deliver(wire::Delivery { content, ..delivery }, None);
            return None;
        }
        let payload = match sent.content {
            Content::Payload(payload) => payload,
            Content::Stale => {
                let trajectory_id = format!("{}-{:08}", delivery.job_id, sent.id);
                let content = Some(wire::Content::Stale(wire::Stale { trajectory_id }));
                outbox.deliver(wire::Delivery { content, ..delivery }, taken);
                return None;
            }
        };
        let part_bytes = self.options.part_bytes;
        if payload.len() <= part_bytes {
            let content = match kind {
                Kind::Trajectory => wire::Content::Trajectory(payload),
                Kind::Group => wire::Content::Group(payload),
                Kind::End => wire::Content::End(payload),
            };
            outbox.deliver(wire::Delivery { content: Some(content), ..delivery }, taken);
            return None;
        }
        send_parts(outbox, &delivery, kind, &payload, part_bytes, taken);
        None
    }
}

/// A record that is too large for one message, in parts: slices of it, which are not copied.
fn send_parts(
    outbox: &Outbox,
    delivery: &wire::Delivery,
    kind: Kind,
    payload: &Bytes,
    part_bytes: usize,
    taken: Option<Taken>,
) {
    let content = match kind {
        Kind::Trajectory => part::Content::Trajectory,
        Kind::Group => part::Content::Group,
        Kind::End => part::Content::End,
    };
    let parts = payload.len().div_ceil(part_bytes);
    for index in 0..parts {
        let range = index * part_bytes..((index + 1) * part_bytes).min(payload.len());
        let part = wire::Part {
            index: index as u32,
            parts: parts as u32,
            data: payload.slice(range),
            content: content.into(),
        };
        let content = Some(wire::Content::Part(part));
        let last = taken.filter(|_| index + 1 == parts);
        outbox.deliver(wire::Delivery { content, ..delivery.clone() }, last);
    }
}

/// A delivery's version as a message.
pub(super) const fn version(version: envmill_delivery::Version) -> wire::Version {
    wire::Version { lineage: version.lineage, step: version.step }
}
