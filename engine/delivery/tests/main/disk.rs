//! A journal in memory, with what is on its way to it.

use std::collections::VecDeque;

use bytes::Bytes;
use envmill_delivery::{
    Batch, Change, Content, Delivery, JobKey, MemoryJournal, RestoredJob, Sent, Stage, StoredJob,
    Ticket, Verdict,
};
use envmill_world::Random;

#[derive(Clone, Debug, Default)]
pub(crate) struct Disk {
    journal: MemoryJournal,
    /// Batches that have been taken and are not on disk.
    pub(crate) on_their_way: VecDeque<Batch>,
    /// What is to be told when everything that was said by then is on disk; with the batch that it is in,
    /// once that is taken.
    promises: Vec<(Option<Ticket>, u64)>,
}

impl Disk {
    /// Takes what the delivery wants written.
    pub(crate) fn take_a_batch(&mut self, delivery: &mut Delivery) {
        self.on_their_way.extend(delivery.batch());
        // Without a batch of its own all that was said is in those before it.
        let last = self.on_their_way.back().map_or(Ticket(0), |batch| batch.ticket);
        for (ticket, _) in &mut self.promises {
            ticket.get_or_insert(last);
        }
    }

    /// [`kept`](Self::kept) is to have this token when all that has been said is on disk.
    pub(crate) fn promise(&mut self, token: u64) {
        self.promises.push((None, token));
    }

    /// The tokens of promises that are kept.
    pub(crate) fn kept(&mut self) -> Vec<u64> {
        let first = self.on_their_way.front().map(|batch| batch.ticket);
        let is_kept = |ticket: Ticket| first.is_none_or(|first| ticket < first);
        let kept = self.promises.extract_if(.., |(ticket, _)| ticket.is_some_and(is_kept));
        kept.map(|(_, token)| token).collect()
    }

    /// Whoever was to be told is not any more.
    pub(crate) fn break_promises(&mut self) {
        self.promises.clear();
    }

    /// The oldest batch that is on its way arrives, and the delivery hears of it. Whether there was one.
    pub(crate) fn write_a_batch(&mut self, delivery: &mut Delivery) -> bool {
        let ticket = self.write_one();
        if let Some(ticket) = ticket {
            delivery.committed(ticket);
        }
        ticket.is_some()
    }

    /// What is on its way may arrive, up to any batch, and nobody hears of it; the rest is lost.
    pub(crate) fn lose_power(&mut self, random: &mut Random) {
        for _ in 0..random.below(self.on_their_way.len() as u64 + 1) {
            self.write_one();
        }
        self.on_their_way.clear();
        self.break_promises();
    }

    /// The oldest batch that is on its way arrives.
    fn write_one(&mut self) -> Option<Ticket> {
        let batch = self.on_their_way.pop_front()?;
        for change in &batch.changes {
            match change {
                Change::Payload { job, sequence, .. } => {
                    assert_eq!(self.payload(*job, *sequence), None, "a payload is written once");
                }
                Change::PayloadGone { job, sequence } => {
                    assert_ne!(self.payload(*job, *sequence), None);
                }
                _ => (),
            }
        }
        self.journal.apply(&batch);
        for job in self.journal.jobs() {
            self.check(&job.restored);
        }
        Some(batch.ticket)
    }

    pub(crate) fn jobs(&self) -> Vec<StoredJob> {
        self.journal.jobs()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.journal == MemoryJournal::default()
    }

    pub(crate) fn restored(&self) -> Vec<RestoredJob> {
        self.jobs().into_iter().map(|job| job.restored).collect()
    }

    pub(crate) fn payload(&self, job: JobKey, sequence: u64) -> Option<Bytes> {
        self.journal.payload(job, sequence)
    }

    /// What is sent has to be here, word for word.
    pub(crate) fn check_sent(&self, sent: &Sent) {
        let jobs = self.restored();
        let stored = jobs.iter().find(|job| job.job == sent.job).expect("the job is here");
        let found = stored.items.iter().find_map(|(sequence, row)| {
            let (Stage::Issued(issue) | Stage::Acknowledged { issue, .. }) = row.stage else {
                return None;
            };
            (issue.number == sent.number).then_some((*sequence, issue))
        });
        let (sequence, issue) = found.expect("what is sent is in the journal");
        match &sent.content {
            Content::Payload(payload) => {
                assert_eq!(issue.verdict, Verdict::Fresh);
                assert_eq!(self.payload(sent.job, sequence).as_ref(), Some(payload));
            }
            Content::Stale => assert_eq!(issue.verdict, Verdict::Stale),
        }
    }

    /// Whatever batch was the last, all of this has to be true.
    fn check(&self, job: &RestoredJob) {
        for (sequence, row) in &job.items {
            assert!(*sequence < job.row.next_sequence);
            assert!(job.ids[row.kind as usize].contains(row.id));
            if let Stage::Issued(issue) | Stage::Acknowledged { issue, .. } = row.stage {
                assert!(issue.number.0 <= job.row.last_number);
            }
            assert_eq!(self.payload(job.job, *sequence).is_some(), row.has_payload(), "{row:?}");
            assert!(row.place.is_none_or(|place| place < job.row.next_place));
        }
    }
}
