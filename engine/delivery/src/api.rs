//! What goes in and what comes out.

use std::{fmt, ops::RangeInclusive};

use bytes::Bytes;
use thiserror::Error;

/// A job, as the journal knows it: never used twice within one store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobKey(pub u64);

/// A trainer's stream, as the caller numbers them: never used twice within one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConsumerId(pub u64);

/// Where an item stands in its job's deliveries, from 1 without gaps. It is given before the item is
/// sent for the first time and stays with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Number(pub u64);

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A version of the policy's weights. A trainer that goes back to a checkpoint starts a new lineage,
/// and what was made on an older one is stale whatever its step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// How often the trainer has gone back.
    pub lineage: u32,
    /// The version within the lineage.
    pub step: u64,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.lineage, self.step)
    }
}

/// What a job's trainer has asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// In which order items go.
    pub order: Order,
    /// What was made on a version older than the current one by more than this is stale when its turn
    /// comes to be sent for the first time. `None`: only what is of an older lineage.
    pub staleness_max: Option<u64>,
    /// How long acknowledged items are kept.
    pub retention: Retention,
    /// Nothing is begun while so many items wait to be sent for the first time.
    pub waiting_items_max: u64,
    /// Nothing is begun while items of so many bytes wait to be sent for the first time.
    pub waiting_bytes_max: u64,
}

/// In which order a job's items go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// One by one as they are finished.
    AsFinished,
    /// A group as a whole once it is decided.
    ByGroup,
    /// Batches of decided groups, asked for by `world` consumers together, each of which gets its own
    /// groups of a batch.
    Batches {
        /// How many consumers there are: ranks 0 to `world - 1`. Rank 0 also gets what is in no batch.
        world: u32,
    },
}

/// How long acknowledged items are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retention {
    /// Not at all.
    UntilAcknowledged,
    /// Until the checkpoint that they were acknowledged under is declared durable, so that a trainer can
    /// go back to an earlier one and have them again.
    UntilDurable,
}

/// Something that is owed to the trainer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished {
    /// Its number among those of its kind in the job; each can be recorded once.
    pub id: u64,
    /// What it is.
    pub kind: Kind,
    /// The group that it belongs to. Nothing but the end of the job is without one: a job without
    /// groups has groups of one.
    pub group: u64,
    /// The oldest policy version that it was made on.
    pub version: Version,
    /// The bytes that go to the trainer.
    pub payload: Bytes,
}

/// What an item is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// The record of an episode.
    Trajectory,
    /// The record of a group.
    Group,
    /// The job's end with its account: the last item.
    End,
}

impl Kind {
    /// Every kind, in the order of their codes in a journal.
    pub const ALL: [Self; 3] = [Self::Trajectory, Self::Group, Self::End];
}

/// What the caller has to do. Outputs for one consumer are to be carried out in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send this.
    Send(Sent),
    /// What is sent next to this consumer is its share of a batch.
    Batch {
        /// To whom.
        consumer: ConsumerId,
        /// Which batch, from 0.
        index: u64,
        /// So many items follow.
        items: u64,
        /// The job has ended and this batch is smaller than was asked for: shares differ in size by a
        /// group, and may be empty. It need not be the last one, if a share of it is released.
        is_short: bool,
    },
    /// The job has ended, and there is nothing for the batch that this consumer asked for, nor will
    /// there be.
    NoMoreBatches(ConsumerId),
    /// Read these bytes from the journal, for [`Delivery::loaded`](crate::Delivery::loaded).
    Load {
        /// The job.
        job: JobKey,
        /// The item's key in the journal.
        sequence: u64,
    },
    /// Another stream has taken a consumer's place; close it.
    Replaced(ConsumerId),
    /// How far the job's episodes may go; told when it changes.
    Pace {
        /// The job.
        job: JobKey,
        /// How far.
        pace: Pace,
    },
    /// The job has ended and nothing of it is owed any more.
    Settled(JobKey),
}

/// How far a job's episodes may go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pace {
    /// On, and others may begin. So it is at first.
    #[default]
    GoOn,
    /// Those that have begun go on, with their groups, and no others begin: much waits to be sent.
    BeginNothing,
    /// No further: the journal cannot be written, or does not keep up.
    Stop,
}

/// Something to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// To whom.
    pub consumer: ConsumerId,
    /// The job.
    pub job: JobKey,
    /// Where it stands in the job's deliveries.
    pub number: Number,
    /// Its number among those of its kind.
    pub id: u64,
    /// What it is.
    pub kind: Kind,
    /// Its group.
    pub group: u64,
    /// The oldest policy version that it was made on.
    pub version: Version,
    /// The version that was current when it was judged, before it was sent for the first time.
    pub judged_at: Version,
    /// What it took of the consumer's credit: the bytes of its content.
    pub bytes: u64,
    /// Whether it may have been sent before.
    pub is_redelivered: bool,
    /// What it holds.
    pub content: Content,
}

/// What a sent item holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// The bytes that were recorded.
    Payload(Bytes),
    /// It was stale when its turn came: only that is told.
    Stale,
}

/// Where a job stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The current policy version.
    pub version: Version,
    /// Items that may go and are with no consumer: they have not been sent, or are to be sent again.
    pub waiting_items: u64,
    /// Their bytes.
    pub waiting_bytes: u64,
    /// Items that have been given to a consumer, now or once, and are not acknowledged.
    pub unacknowledged_items: u64,
    /// The largest number that was given.
    pub last_number: u64,
    /// The job's end has been recorded.
    pub has_ended: bool,
    /// The ranks whose consumers are attached.
    pub ranks: Vec<u32>,
}

/// There is no such job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("there is no job {}", .0.0)]
pub struct UnknownJob(pub JobKey);

/// Why something finished was not taken. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RecordError {
    /// There is no such job.
    #[error(transparent)]
    UnknownJob(#[from] UnknownJob),
    /// The journal has an item of this kind and id, whose bytes are the ones that count.
    #[error("{kind:?} {id} has been recorded before")]
    AlreadyRecorded {
        /// The kind.
        kind: Kind,
        /// The id.
        id: u64,
    },
    /// The job's end has been recorded.
    #[error("the job has ended")]
    JobEnded,
}

/// Why a stream was not attached. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum AttachError {
    /// There is no such job.
    #[error(transparent)]
    UnknownJob(#[from] UnknownJob),
    /// The job has fewer consumers.
    #[error("rank {rank} of a job for {world} consumers")]
    Rank {
        /// The rank that was asked for.
        rank: u32,
        /// How many there are.
        world: u32,
    },
    /// Nothing was sent under so large a number.
    #[error("the cursor {cursor} is past {last}, the last delivery")]
    Cursor {
        /// The cursor.
        cursor: u64,
        /// The largest number that was given.
        last: u64,
    },
}

/// Why an acknowledgement was not taken. None of it was.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AcknowledgeError {
    /// There is no such job.
    #[error(transparent)]
    UnknownJob(#[from] UnknownJob),
    /// It holds numbers of what has not been sent.
    #[error("{}–{} holds deliveries that were not sent; the last number is {last}", .range.start(), .range.end())]
    NotSent {
        /// The range.
        range: RangeInclusive<u64>,
        /// The largest number that was given.
        last: u64,
    },
    /// Its checkpoint is none that may follow.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
}

/// Why a checkpoint's name was refused. Nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CheckpointError {
    /// There is no such job.
    #[error(transparent)]
    UnknownJob(#[from] UnknownJob),
    /// The job keeps nothing that was acknowledged.
    #[error("the job keeps nothing that was acknowledged: ask for retention until durable")]
    NotRetained,
    /// Later checkpoints have been named since.
    #[error("the checkpoint `{name}` was followed by `{last}`")]
    OutOfOrder {
        /// The name.
        name: String,
        /// The latest one.
        last: String,
    },
    /// The job does not know it, or no longer.
    #[error("there is no checkpoint `{0}`")]
    Unknown(String),
}

/// Why a batch was not taken as a wish. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BatchError {
    /// There is no such job.
    #[error(transparent)]
    UnknownJob(#[from] UnknownJob),
    /// The job delivers by credit.
    #[error("the job delivers by credit, not in batches")]
    NotInBatches,
    /// No such consumer is attached.
    #[error("the stream is not attached to the job")]
    NotAttached,
    /// It is neither the next batch nor an earlier one.
    #[error("batch {index} is asked for, and {next} is the next one")]
    Skipped {
        /// The batch that was asked for.
        index: u64,
        /// The next one.
        next: u64,
    },
    /// A batch has a whole number of groups for each consumer, at least one.
    #[error("{groups} groups cannot be split among {world} consumers")]
    Indivisible {
        /// The groups.
        groups: u64,
        /// The consumers.
        world: u32,
    },
    /// Other consumers want another number of groups.
    #[error("{groups} groups are asked for, and another rank has asked for {others}")]
    Differs {
        /// The groups.
        groups: u64,
        /// What the others want.
        others: u64,
    },
    /// Consumers have been told that there are no more batches, and would not ask for another.
    #[error("the job has ended, and its consumers have been told so")]
    Ended,
    /// There is no such share of a batch, or nothing of it is left.
    #[error("nothing of batch {index} is outstanding for rank {rank}")]
    NoShare {
        /// The batch.
        index: u64,
        /// The rank.
        rank: u32,
    },
}

/// Why a version was not taken. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum VersionError {
    /// There is no such job.
    #[error(transparent)]
    UnknownJob(#[from] UnknownJob),
    /// It is older than the current one.
    #[error(
        "version {announced} is older than {current}; a trainer that goes back starts a new lineage"
    )]
    WentBack {
        /// The version.
        announced: Version,
        /// The current one.
        current: Version,
    },
}
