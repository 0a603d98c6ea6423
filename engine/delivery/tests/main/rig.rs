//! A delivery with its journal, driven by hand.

use std::collections::VecDeque;

use bytes::Bytes;
use envmill_delivery::{
    ConsumerId, Content, Delivery, Finished, JobKey, Kind, Options, Order, Output, Retention, Sent,
    Terms, Version,
};

use crate::disk::Disk;

pub(crate) const JOB: JobKey = JobKey(1);

pub(crate) const TERMS: Terms = Terms {
    order: Order::AsFinished,
    staleness_max: None,
    retention: Retention::UntilAcknowledged,
    waiting_items_max: 1_000,
    waiting_bytes_max: 1 << 20,
};

pub(crate) struct Rig {
    pub(crate) delivery: Delivery,
    pub(crate) disk: Disk,
    options: Options,
    /// What came out and was not looked at, but for what the rig does itself.
    pub(crate) told: VecDeque<Output>,
}

impl Rig {
    pub(crate) fn new(terms: Terms) -> Self {
        Self::with(terms, Options::default())
    }

    pub(crate) fn with(terms: Terms, options: Options) -> Self {
        let mut delivery = Delivery::new(options);
        delivery.accept(JOB, terms, Bytes::from_static(b"a job"));
        Self { delivery, disk: Disk::default(), options, told: VecDeque::new() }
    }

    pub(crate) fn attach(&mut self, rank: u32, consumer: u64, cursor: u64) {
        self.delivery.attach(JOB, rank, ConsumerId(consumer), cursor).unwrap();
    }

    pub(crate) fn credit(&mut self, consumer: u64, items: u64) {
        self.delivery.credit(JOB, ConsumerId(consumer), items, 1 << 30).unwrap();
    }

    pub(crate) fn record(&mut self, id: u64, group: u64) {
        let finished = trajectory(id, group, Version::default());
        self.delivery.record(JOB, finished).unwrap();
    }

    /// Records a group of `members` with its record, and releases it.
    pub(crate) fn group(&mut self, group: u64, members: u64, is_usable: bool) {
        for member in 0..members {
            self.record(group * members + member, group);
        }
        let payload = Bytes::from(format!("group {group}"));
        let kind = Kind::Group;
        let version = Version::default();
        self.delivery.record(JOB, Finished { id: group, kind, group, version, payload }).unwrap();
        self.delivery.release(JOB, group, is_usable).unwrap();
    }

    pub(crate) fn end(&mut self) {
        let (kind, payload) = (Kind::End, Bytes::from_static(b"the end"));
        let version = Version::default();
        self.delivery.record(JOB, Finished { id: 0, kind, group: 0, version, payload }).unwrap();
    }

    /// Everything that is to be written is, and everything that is to be read is read.
    pub(crate) fn settle(&mut self) {
        loop {
            self.disk.take_a_batch(&mut self.delivery);
            let mut is_quiet = true;
            while self.disk.write_a_batch(&mut self.delivery) {
                is_quiet = false;
            }
            is_quiet &= !self.look();
            if is_quiet {
                return;
            }
        }
    }

    /// Takes the outputs; whether something was read from the journal.
    pub(crate) fn look(&mut self) -> bool {
        let mut has_read = false;
        for output in self.delivery.outputs() {
            match output {
                Output::Load { job, sequence } => {
                    let payload = self.disk.payload(job, sequence).unwrap();
                    self.delivery.loaded(job, sequence, payload);
                    has_read = true;
                }
                Output::Send(sent) => {
                    self.disk.check_sent(&sent);
                    self.told.push_back(Output::Send(sent));
                }
                other => self.told.push_back(other),
            }
        }
        has_read
    }

    /// The numbers that were sent to a consumer since the last look.
    pub(crate) fn sent(&mut self, to: u64) -> Vec<Sent> {
        self.settle();
        let (sent, rest) = self.told.drain(..).partition::<VecDeque<_>, _>(
            |output| matches!(output, Output::Send(sent) if sent.consumer == ConsumerId(to)),
        );
        self.told = rest;
        sent.into_iter()
            .filter_map(|output| match output {
                Output::Send(sent) => Some(sent),
                _ => None,
            })
            .collect()
    }

    pub(crate) fn numbers(&mut self, to: u64) -> Vec<u64> {
        self.sent(to).iter().map(|sent| sent.number.0).collect()
    }

    pub(crate) fn acknowledge(&mut self, from: u64, to: u64, under: Option<&str>) {
        self.delivery.acknowledge(JOB, &[from..=to], under).unwrap();
        self.disk.promise(to);
    }

    pub(crate) fn has_told(&mut self, what: &Output) -> bool {
        self.settle();
        self.told.contains(what)
    }

    /// The process is killed; what was on its way to the disk is lost.
    pub(crate) fn crash(&mut self) {
        self.disk.on_their_way.clear();
        self.disk.break_promises();
        self.told.clear();
        self.delivery = Delivery::restore(self.options, self.disk.restored());
    }
}

pub(crate) fn trajectory(id: u64, group: u64, version: Version) -> Finished {
    let payload = Bytes::from(format!("trajectory {id}"));
    Finished { id, kind: Kind::Trajectory, group, version, payload }
}

pub(crate) fn payload(sent: &Sent) -> &[u8] {
    match &sent.content {
        Content::Payload(payload) => payload,
        Content::Stale => b"stale",
    }
}
