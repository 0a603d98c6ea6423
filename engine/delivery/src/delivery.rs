//! All jobs together, with one journal.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::RangeInclusive,
};

use bytes::Bytes;

use crate::{
    AcknowledgeError, AttachError, Batch, BatchError, CheckpointError, ConsumerId, Finished, Ids,
    JobKey, Kind, Output, RecordError, RestoredJob, Standing, Terms, Ticket, UnknownJob, Version,
    VersionError, job::Job,
};

/// Limits that all jobs share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Payloads in memory, beside what is in a consumer's line (which its credit bounds) and what is
    /// not yet in the journal. What is beyond is read from the journal when its turn comes. The
    /// default of 256 MiB holds some 30,000 trajectories of 8 KiB.
    pub memory_bytes_max: u64,
    /// Episodes of all jobs pause while payloads of so many bytes are not yet in the journal. The
    /// default of 64 MiB is what a disk that writes 64 MB/s takes a second for.
    pub unwritten_bytes_max: u64,
    /// However much credit a stream has, no more is lined up for it while payloads of so many bytes are
    /// in its line or were sent and have not been [`taken`](Delivery::taken) by its socket. The default
    /// of 4 MiB is some 10 ms of a network of 4 Gbit/s. Batches are lined up as a whole: they were asked for.
    pub window_bytes: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { memory_bytes_max: 256 << 20, unwritten_bytes_max: 64 << 20, window_bytes: 4 << 20 }
    }
}

/// What every trainer is owed.
///
/// After each call, or a few of them, the caller takes [`outputs`](Self::outputs) and carries them out,
/// and takes a [`batch`](Self::batch) for the journal when that is ready for one.
#[derive(Debug)]
pub struct Delivery {
    jobs: BTreeMap<JobKey, Job>,
    /// Jobs that the journal has yet to forget.
    gone: Vec<JobKey>,
    shared: Shared,
}

/// What jobs have in common.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) options: Options,
    /// The batch of changes that is made up now.
    pub(crate) next: Ticket,
    /// The last one that is on disk.
    pub(crate) committed: Ticket,
    pub(crate) outputs: Vec<Output>,
    pub(crate) resident_bytes: u64,
    unwritten: VecDeque<(Ticket, JobKey, u64, u64)>,
    unwritten_bytes: u64,
    is_failing: bool,
}

impl Delivery {
    /// With nothing owed.
    #[must_use]
    pub const fn new(options: Options) -> Self {
        let shared = Shared {
            options,
            next: Ticket(1),
            committed: Ticket(0),
            outputs: Vec::new(),
            resident_bytes: 0,
            unwritten: VecDeque::new(),
            unwritten_bytes: 0,
            is_failing: false,
        };
        Self { jobs: BTreeMap::new(), gone: Vec::new(), shared }
    }

    /// As a journal has it. Everything that had a number counts as sent.
    #[must_use]
    pub fn restore(options: Options, jobs: Vec<RestoredJob>) -> Self {
        let mut delivery = Self::new(options);
        for job in jobs {
            delivery.jobs.insert(job.job, Job::restored(job));
        }
        delivery.each(|_, _| ());
        delivery
    }

    /// A new job. `description` is the caller's, kept in the journal. A key that is taken replaces
    /// nothing and is ignored.
    pub fn accept(&mut self, job: JobKey, terms: Terms, description: Bytes) {
        let shared = &self.shared;
        self.jobs.entry(job).or_insert_with(|| Job::new(job, terms, description, shared));
    }

    /// Something is finished and owed to the trainer.
    ///
    /// # Errors
    ///
    /// What has been recorded before counts, and this does not.
    pub fn record(&mut self, job: JobKey, finished: Finished) -> Result<(), RecordError> {
        self.with(job, |job, shared| job.record(finished, shared))?
    }

    /// A group is decided, and its record, if there is one, has been recorded: it may go, if not as
    /// finished then now. `is_usable`: there is enough to train on for a batch.
    ///
    /// # Errors
    ///
    /// There is no such job.
    pub fn release(&mut self, job: JobKey, group: u64, is_usable: bool) -> Result<(), UnknownJob> {
        self.with(job, |job, shared| {
            job.release(group, is_usable, shared);
        })
    }

    /// The caller's own bytes, to be on disk together with what is recorded before the next
    /// [`batch`](Self::batch).
    ///
    /// # Errors
    ///
    /// There is no such job.
    pub fn note(&mut self, job: JobKey, name: &str, value: Bytes) -> Result<(), UnknownJob> {
        self.with(job, |job, shared| job.note(name.to_owned(), value, shared))
    }

    /// The trainer has a new policy version.
    ///
    /// # Errors
    ///
    /// It is older than the current one.
    pub fn announce(&mut self, job: JobKey, version: Version) -> Result<(), VersionError> {
        self.with(job, |job, shared| job.announce(version, shared))?
    }

    /// A stream comes for a job's deliveries, and gets again what was not acknowledged and has a number
    /// above `cursor`. One that was there with the same rank is replaced. It has no credit at first.
    ///
    /// # Errors
    ///
    /// There is no such job or rank, or nothing was sent under such a number.
    pub fn attach(
        &mut self,
        job: JobKey,
        rank: u32,
        consumer: ConsumerId,
        cursor: u64,
    ) -> Result<(), AttachError> {
        self.with(job, |job, shared| job.attach(rank, consumer, cursor, shared))?
    }

    /// A stream is gone.
    pub fn detach(&mut self, consumer: ConsumerId) {
        self.each(|job, shared| {
            job.detach(consumer, shared);
        });
    }

    /// A stream may be sent so many more items, and bytes of payload. Both have to be left for the next
    /// item to go; the last one may be larger than the bytes that are left.
    ///
    /// # Errors
    ///
    /// There is no such job. Credit of a stream that is not attached is ignored.
    pub fn credit(
        &mut self,
        job: JobKey,
        consumer: ConsumerId,
        items: u64,
        bytes: u64,
    ) -> Result<(), UnknownJob> {
        self.with(job, |job, _| {
            if let Some(consumer) = job.consumers.values_mut().find(|it| it.id == consumer) {
                consumer.credit.grant(items, bytes);
            }
        })
    }

    /// So many [bytes](crate::Sent::bytes) of what was sent to a stream have left for its socket: as many
    /// more may be lined up.
    ///
    /// # Errors
    ///
    /// There is no such job. A stream that is not attached is ignored.
    pub fn taken(
        &mut self,
        job: JobKey,
        consumer: ConsumerId,
        bytes: u64,
    ) -> Result<(), UnknownJob> {
        self.with(job, |job, _| {
            if let Some(consumer) = job.consumers.values_mut().find(|it| it.id == consumer) {
                consumer.window = consumer.window.saturating_sub(bytes);
            }
        })
    }

    /// The trainer has what was sent under these numbers and will not need it again, or not after
    /// `checkpoint` is durable. Without a checkpoint it belongs to the one that is named next. Numbers
    /// that were acknowledged before are ignored, and so a call that is repeated does no harm. It holds
    /// for certain once the next [batch](Self::batch) is on disk.
    ///
    /// # Errors
    ///
    /// Some of it was not sent, or the checkpoint is none that can follow; nothing is acknowledged.
    pub fn acknowledge(
        &mut self,
        job: JobKey,
        ranges: &[RangeInclusive<u64>],
        checkpoint: Option<&str>,
    ) -> Result<(), AcknowledgeError> {
        self.with(job, |job, shared| job.acknowledge(ranges, checkpoint, shared))?
    }

    /// A checkpoint is safe, and with it what was acknowledged under it or before.
    ///
    /// # Errors
    ///
    /// There is no such checkpoint.
    pub fn durable(&mut self, job: JobKey, checkpoint: &str) -> Result<(), CheckpointError> {
        self.with(job, |job, shared| job.durable(checkpoint, shared))?
    }

    /// The trainer is back at a checkpoint, or for `None` where it began: what it acknowledged later it
    /// gets again, under the same numbers.
    ///
    /// # Errors
    ///
    /// There is no such checkpoint, or a later one is durable.
    pub fn rewind(&mut self, job: JobKey, checkpoint: Option<&str>) -> Result<(), CheckpointError> {
        self.with(job, |job, shared| job.rewind(checkpoint, shared))?
    }

    /// A consumer wants its share of a batch of `groups`. The next batch is made when every rank has
    /// asked for it; of an earlier one it gets again what it has not acknowledged.
    ///
    /// # Errors
    ///
    /// The batch is no such one, or the ranks do not agree.
    pub fn want(
        &mut self,
        job: JobKey,
        consumer: ConsumerId,
        index: u64,
        groups: u64,
    ) -> Result<(), BatchError> {
        self.with(job, |job, shared| job.want(consumer, index, groups, shared))?
    }

    /// A rank will not come back for its share of a batch: what it has not acknowledged goes into
    /// later batches.
    ///
    /// # Errors
    ///
    /// There is nothing of it.
    pub fn release_share(&mut self, job: JobKey, index: u64, rank: u32) -> Result<(), BatchError> {
        self.with(job, |job, shared| job.release_share(index, rank, shared))?
    }

    /// The journal has given a payload that was asked for with [`Output::Load`].
    pub fn loaded(&mut self, job: JobKey, sequence: u64, payload: Bytes) {
        // A job that is gone needs no payloads.
        let _ = self.with(job, |job, shared| job.loaded(sequence, payload, shared));
    }

    /// Drops a job and all that is owed of it.
    pub fn forget(&mut self, job: JobKey) {
        if let Some(gone) = self.jobs.remove(&job) {
            self.shared.resident_bytes -= gone.resident_bytes();
            self.gone.push(job);
        }
    }

    /// The changes since the last batch, if there are any. Batches may be taken while earlier ones are
    /// being written.
    pub fn batch(&mut self) -> Option<Batch> {
        let mut changes = Vec::new();
        for job in self.jobs.values_mut() {
            job.take_changes(&mut changes);
        }
        changes.extend(self.gone.drain(..).map(|job| crate::Change::JobGone { job }));
        if changes.is_empty() {
            return None;
        }
        let ticket = self.shared.next;
        self.shared.next = Ticket(ticket.0 + 1);
        Some(Batch { ticket, changes })
    }

    /// Every batch up to this one is on disk.
    pub fn committed(&mut self, ticket: Ticket) {
        let shared = &mut self.shared;
        shared.committed = shared.committed.max(ticket);
        shared.is_failing = false;
        while let Some(&(after, key, sequence, bytes)) = shared.unwritten.front()
            && after <= shared.committed
        {
            shared.unwritten.pop_front();
            shared.unwritten_bytes -= bytes;
            if let Some(job) = self.jobs.get_mut(&key) {
                job.written(sequence, shared);
            }
        }
        self.each(|_, _| ());
    }

    /// The journal cannot write (its disk is full); the caller tries the same batch again until it can.
    /// Until then all episodes pause.
    pub fn journal_fails(&mut self) {
        self.shared.is_failing = true;
        self.each(|_, _| ());
    }

    /// What has to be done.
    pub fn outputs(&mut self) -> Vec<Output> {
        std::mem::take(&mut self.shared.outputs)
    }

    /// Whether an item has been recorded, in this life or an earlier one.
    #[must_use]
    pub fn has_recorded(&self, job: JobKey, kind: Kind, id: u64) -> bool {
        self.jobs.get(&job).is_some_and(|job| job.has_recorded(kind, id))
    }

    /// The ids that have been recorded.
    #[must_use]
    pub fn recorded(&self, job: JobKey, kind: Kind) -> Option<&Ids> {
        self.jobs.get(&job).map(|job| job.ids(kind))
    }

    /// The current policy version of a job.
    #[must_use]
    pub fn version(&self, job: JobKey) -> Option<Version> {
        self.jobs.get(&job).map(|job| job.row.version)
    }

    /// Where a job stands.
    #[must_use]
    pub fn standing(&self, job: JobKey) -> Option<Standing> {
        self.jobs.get(&job).map(Job::standing)
    }

    /// Items that are recorded and still owed or kept.
    #[must_use]
    pub fn kept(&self, job: JobKey) -> usize {
        self.jobs.get(&job).map_or(0, |job| job.items.len())
    }

    /// Bytes of payloads in memory.
    #[must_use]
    pub const fn resident_bytes(&self) -> u64 {
        self.shared.resident_bytes
    }

    fn with<T>(
        &mut self,
        key: JobKey,
        what: impl FnOnce(&mut Job, &mut Shared) -> T,
    ) -> Result<T, UnknownJob> {
        let was_clogged = self.shared.is_clogged();
        let job = self.jobs.get_mut(&key).ok_or(UnknownJob(key))?;
        let told = what(job, &mut self.shared);
        job.pump(&mut self.shared);
        if self.shared.is_clogged() != was_clogged {
            self.each(|_, _| ());
        }
        Ok(told)
    }

    fn each(&mut self, mut what: impl FnMut(&mut Job, &mut Shared)) {
        for job in self.jobs.values_mut() {
            what(job, &mut self.shared);
            job.pump(&mut self.shared);
        }
    }
}

impl Shared {
    pub(crate) fn arrived(&mut self, job: JobKey, sequence: u64, bytes: u64) {
        self.resident_bytes += bytes;
        self.unwritten_bytes += bytes;
        self.unwritten.push_back((self.next, job, sequence, bytes));
    }

    pub(crate) const fn is_clogged(&self) -> bool {
        self.is_failing || self.unwritten_bytes >= self.options.unwritten_bytes_max
    }
}
