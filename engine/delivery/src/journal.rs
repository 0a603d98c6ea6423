//! What has to be on disk, and what is found there.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::{Ids, ItemRow, JobKey, Kind, Terms, Version};

/// Batches of changes are numbered from 1, in the order in which they have to be applied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// Changes that go to disk together: all of them or none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Its number, for [`Delivery::committed`](crate::Delivery::committed).
    pub ticket: Ticket,
    /// The changes. No two are about the same thing, except that payloads and items belong together.
    pub changes: Vec<Change>,
}

/// One change of the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A new job.
    Job {
        /// The job.
        job: JobKey,
        /// What was agreed.
        terms: Terms,
        /// The caller's description of it.
        description: Bytes,
    },
    /// A job's counters, replaced.
    JobRow {
        /// The job.
        job: JobKey,
        /// The counters.
        row: JobRow,
    },
    /// An item, new or replaced.
    Item {
        /// The job.
        job: JobKey,
        /// The item's key.
        sequence: u64,
        /// The item.
        row: ItemRow,
    },
    /// The payload of a new item.
    Payload {
        /// The job.
        job: JobKey,
        /// The item's key.
        sequence: u64,
        /// The bytes.
        payload: Bytes,
    },
    /// An item's payload is not needed any more, the item is.
    PayloadGone {
        /// The job.
        job: JobKey,
        /// The item's key.
        sequence: u64,
    },
    /// An item and its payload are not needed any more.
    ItemGone {
        /// The job.
        job: JobKey,
        /// The item's key.
        sequence: u64,
    },
    /// A chunk of the ids that were recorded, replaced; see [`Ids`].
    Ids {
        /// The job.
        job: JobKey,
        /// The kind of items.
        kind: Kind,
        /// Which chunk.
        chunk: u64,
        /// The chunk.
        words: Box<[u64; 64]>,
    },
    /// Something of the caller's, by name, replaced: where a sampler stands, for example.
    Note {
        /// The job.
        job: JobKey,
        /// Its name.
        name: String,
        /// The bytes.
        value: Bytes,
    },
    /// Everything of a job is gone.
    JobGone {
        /// The job.
        job: JobKey,
    },
}

/// A job's counters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobRow {
    /// The next item's key.
    pub next_sequence: u64,
    /// The next place among what is ready to go.
    pub next_place: u64,
    /// The largest number that was given to a delivery; 0 before the first.
    pub last_number: u64,
    /// The next batch.
    pub next_batch: u64,
    /// The current policy version.
    pub version: Version,
    /// How many checkpoints have been declared durable.
    pub checkpoints_durable: u64,
    /// The last one of them.
    pub durable: Option<String>,
    /// Checkpoints that were named since, in order.
    pub checkpoints: Vec<String>,
    /// Whether the job's end has been recorded.
    pub has_ended: bool,
    /// Whether a consumer that asked for a batch has been told that there are no more.
    pub has_told_end: bool,
}

/// What a journal holds of one job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoredJob {
    /// The job.
    pub job: JobKey,
    /// What was agreed.
    pub terms: Terms,
    /// Its counters.
    pub row: JobRow,
    /// The ids that were recorded, by kind in the order of [`Kind::ALL`].
    pub ids: [Ids; 3],
    /// The items by key.
    pub items: Vec<(u64, ItemRow)>,
}

/// What a journal holds of one job, with what is the caller's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredJob {
    /// For [`Delivery::restore`](crate::Delivery::restore).
    pub restored: RestoredJob,
    /// The caller's description of it.
    pub description: Bytes,
    /// The caller's notes by name.
    pub notes: BTreeMap<String, Bytes>,
}
