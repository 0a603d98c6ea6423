//! A job's records as they come.

use std::{future::Future, ops::RangeInclusive, sync::Arc, time::Duration};

use envmill_wire::{self as wire, drive_request::Request};
use tokio::sync::{mpsc, oneshot};

use crate::{
    Error, InPlace,
    client::Stub,
    link::{Ask, Link, Way},
    taken::Taken,
};

/// How records are taken.
#[derive(Clone, Debug)]
pub struct RolloutsOptions {
    /// So many records at most have come and have not been taken. Default 1,024.
    pub window_records: u64,
    /// So many bytes of records at most have come and have not been taken, but for the last one. Default
    /// 64 MiB.
    pub window_bytes: u64,
    /// A broken connection is made again for so long. Default 10 minutes.
    pub reconnect_for: Duration,
    /// Bytes of memory to share with an engine on this host, through which trajectories come instead of
    /// through the connection. One may take half of it. Default none. Where it cannot be had (the engine
    /// is elsewhere, is another user's, or shares none) records come as they do without.
    pub shared_memory: Option<u64>,
    /// Leaves the arrays of trajectories that come through shared memory where they are: see
    /// [`Delivered::in_place`]. Default no: records are copied out, and the memory given back at once.
    pub in_place: bool,
}

impl Default for RolloutsOptions {
    fn default() -> Self {
        Self {
            window_records: 1024,
            window_bytes: 64 << 20,
            reconnect_for: Duration::from_mins(10),
            shared_memory: None,
            in_place: false,
        }
    }
}

/// A record as it was delivered.
#[derive(Clone, Debug, PartialEq)]
pub struct Delivered {
    /// What [`Wishes::acknowledge`] takes.
    pub number: u64,
    /// It may have been delivered before, to this consumer or an earlier one.
    pub redelivered: bool,
    /// Its group; without groups, the episode's own number.
    pub group_id: u64,
    /// The oldest policy version that it was made on.
    pub version: wire::Version,
    /// The version that was current when its turn came.
    pub judged_at: wire::Version,
    /// The number of the episode or group within its job.
    pub index: u64,
    /// How many bytes its record took on the wire, as credit counts them.
    pub bytes: u64,
    /// The record; without the lists over tokens and the data of blobs where they are in place.
    pub record: wire::Record,
    /// A trajectory's arrays, where they were left in shared memory: with
    /// [`in_place`](RolloutsOptions::in_place), and if it came that way.
    pub in_place: Option<InPlace>,
}

impl Delivered {
    /// Copies what was left in shared memory into the record, and gives it back.
    ///
    /// # Errors
    ///
    /// The engine has written something else there meanwhile.
    pub fn copy_out(&mut self) -> Result<(), Error> {
        let Some(in_place) = self.in_place.take() else { return Ok(()) };
        let whole = in_place.whole()?;
        self.record = wire::Record::Trajectory(Box::new(whole));
        Ok(())
    }
}

/// Something that the service tells.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A record.
    Delivered(Box<Delivered>),
    /// A share of a batch follows.
    Batch(wire::Batch),
    /// There are no more batches.
    NoMoreBatches,
    /// Where the job stands.
    Progress(Box<wire::Progress>),
    /// Something that the trainer should know.
    Warning(wire::Warning),
    /// A version that was announced is now the one that episodes are begun on.
    VersionCurrent(wire::Version),
    /// The service was asked to [rewind](Wishes::rewind). What was delivered before this and was not
    /// acknowledged comes again.
    Rewound,
    /// Everything was acknowledged.
    Settled,
}

/// The records of one job, and the way of its trainer's wishes. Dropping it leaves the job alone: it
/// goes on, and waits for a trainer that comes back.
#[derive(Debug)]
pub struct Rollouts {
    accepted: wire::JobAccepted,
    events: mpsc::UnboundedReceiver<Result<Event, Error>>,
    wishes: Wishes,
}

impl Rollouts {
    pub(crate) async fn submit(
        stub: Stub,
        is_local: bool,
        job: wire::SubmitJob,
        options: RolloutsOptions,
    ) -> Result<Self, Error> {
        Self::start(stub, is_local, Way::Submit(Box::new(job)), options).await
    }

    pub(crate) async fn attach(
        stub: Stub,
        is_local: bool,
        job_id: &str,
        rank: u32,
        cursor: u64,
        options: RolloutsOptions,
    ) -> Result<Self, Error> {
        let job_id = job_id.to_owned();
        let way = Way::Attach(wire::AttachJob { job_id, rank, cursor });
        Self::start(stub, is_local, way, options).await
    }

    async fn start(
        stub: Stub,
        is_local: bool,
        way: Way,
        mut options: RolloutsOptions,
    ) -> Result<Self, Error> {
        options.shared_memory = options.shared_memory.filter(|_| is_local);
        let (asks, receiver) = mpsc::unbounded_channel();
        let (sender, events) = mpsc::unbounded_channel();
        let (accepting, accepted) = oneshot::channel();
        let taken = Arc::new(Taken::new(&options));
        let link = Link::new(stub, way, options, sender, Arc::clone(&taken));
        tokio::spawn(link.run(receiver, accepting));
        let gone = || Error::Over("its task has ended".into());
        let accepted = accepted.await.map_err(|_| gone())??;
        let wishes = Wishes { job_id: accepted.job_id.clone(), asks, taken };
        Ok(Self { accepted, events, wishes })
    }

    /// The job as it was accepted.
    #[must_use]
    pub const fn accepted(&self) -> &wire::JobAccepted {
        &self.accepted
    }

    /// The job's id.
    #[must_use]
    pub fn job_id(&self) -> &str {
        &self.accepted.job_id
    }

    /// What comes next. `None` once the stream is over, after its error.
    pub async fn next(&mut self) -> Option<Result<Event, Error>> {
        self.events.recv().await
    }

    /// Says that an event was taken, and makes room for as much. To be called for each
    /// [`Event::Delivered`] with its [bytes](Delivered::bytes), here or on [`Wishes`].
    pub fn taken(&self, bytes: u64) {
        self.wishes.taken(bytes);
    }

    /// A handle for wishes that other tasks may use.
    #[must_use]
    pub fn wishes(&self) -> Wishes {
        self.wishes.clone()
    }
}

/// What a trainer may say about its job. Each is said when its method is called, in the order of the
/// calls; it is done, and on disk where that is promised, when the future is ready. A connection that
/// breaks meanwhile is made again and the wish said again.
///
/// # Cancel safety
///
/// A future that is dropped takes nothing back.
#[derive(Clone, Debug)]
pub struct Wishes {
    job_id: String,
    asks: mpsc::UnboundedSender<Ask>,
    taken: Arc<Taken>,
}

macro_rules! wishes {
    ($($(#[$doc:meta])* $name:ident($($field:ident: $type:ty),*) => $variant:ident($message:ident);)*) => {
        impl Wishes {
            $(
                $(#[$doc])*
                ///
                /// # Errors
                ///
                /// The service refuses, or has not been there for too long.
                pub fn $name(
                    &self $(, $field: $type)*
                ) -> impl Future<Output = Result<(), Error>> + Send + use<> {
                    let job_id = self.job_id.clone();
                    self.ask(Request::$variant(wire::$message { job_id $(, $field)* }))
                }
            )*
        }
    };
}

wishes! {
    /// Lets the job's episodes go no further than their next turn.
    pause() => Pause(PauseJob);
    /// Lets them go on.
    resume() => Resume(ResumeJob);
    /// Begins no more episodes of the job.
    drain() => Drain(DrainJob);
    /// Finishes nothing more of the job.
    cancel() => Cancel(CancelJob);
    /// A checkpoint is safe, and with it what was acknowledged under it.
    durable(checkpoint: String) => Durable(DeclareDurable);
    /// The trainer is back at a checkpoint (empty: where the job began) and wants again what came after
    /// it. What had come and was not acknowledged comes again after [`Event::Rewound`], also if it is
    /// refused.
    rewind(checkpoint: String) => Rewind(Rewind);
    /// Wants this rank's share of batch `index`, which has so many groups over all ranks. If the connection
    /// breaks before all of it is there, [`Event::Batch`] comes again, and all of it.
    next_batch(index: u64, groups: u64) => NextBatch(NextBatch);
    /// A rank will not come back for its share of a batch.
    release_share(index: u64, rank: u32) => ReleaseShare(ReleaseShare);
}

impl Wishes {
    /// Says that an event was taken, as [`Rollouts::taken`] does.
    pub fn taken(&self, bytes: u64) {
        if self.taken.add(bytes) {
            let _ = self.asks.send(Ask::Taken);
        }
    }

    /// Has what was delivered under these numbers, and will not need it again, or not after `checkpoint`
    /// (if it is not empty) is durable.
    ///
    /// # Errors
    ///
    /// The service refuses, or has not been there for too long.
    pub fn acknowledge(
        &self,
        ranges: &[RangeInclusive<u64>],
        checkpoint: &str,
    ) -> impl Future<Output = Result<(), Error>> + Send + use<> {
        let range =
            |it: &RangeInclusive<u64>| wire::NumberRange { first: *it.start(), last: *it.end() };
        let request = Request::Acknowledge(wire::Acknowledge {
            job_id: self.job_id.clone(),
            numbers: Vec::new(),
            ranges: ranges.iter().map(range).collect(),
            checkpoint: checkpoint.to_owned(),
        });
        self.ask(request)
    }

    /// The policy has a new version; episodes in flight do as the job says, unless `in_flight` says. A
    /// language model's inference engines load its `weights` from this folder first; empty: they have them.
    ///
    /// # Errors
    ///
    /// The service refuses, or has not been there for too long.
    pub fn announce(
        &self,
        version: wire::Version,
        in_flight: Option<wire::InFlight>,
        weights: &str,
    ) -> impl Future<Output = Result<(), Error>> + Send + use<> {
        let request = Request::Announce(wire::AnnounceVersion {
            job_id: self.job_id.clone(),
            version: Some(version),
            in_flight: in_flight.map(Into::into),
            weights: weights.to_owned(),
        });
        self.ask(request)
    }

    fn ask(&self, request: Request) -> impl Future<Output = Result<(), Error>> + Send + use<> {
        let (sender, receiver) = oneshot::channel();
        // If nobody takes it, nobody answers.
        let _ = self.asks.send(Ask::Request(Box::new(request), sender));
        async { receiver.await.unwrap_or_else(|_| Err(Error::Over("the stream has ended".into()))) }
    }
}
