//! The one place where players, trainers and the journal meet: a thread that owns the
//! [`Delivery`] and everything that is known of jobs.
//!
//! Whatever happens comes as a [`Word`] through one channel. After the words that have gathered, what
//! the delivery wants done is carried out, and the changes go to the journal as one batch when that has
//! written the batch before.

mod account;
mod job;
mod outputs;
mod playing;
mod report;
mod requests;
mod restore;
mod rings;

use std::{
    collections::{BTreeMap, HashMap},
    sync::mpsc::{Receiver, RecvTimeoutError, Sender},
    time::{Duration, Instant},
};

use envmill_core::{Scoring, Tasks};
use envmill_delivery::{ConsumerId, Delivery, JobKey, Ticket};
use envmill_store::{News, Scribe};
use envmill_wire as wire;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tonic::Status;

use self::{job::Job, outputs::Promise};
pub(crate) use self::{
    restore::{Means, make, start},
    rings::Rings,
};
use crate::{
    Desk, Environment, Played,
    ear::Permit,
    metrics::Metrics,
    options::ServiceOptions,
    outflow::Outbox,
    outflow::Taken,
    refusal::Refusal,
    rings::{RingId, RingNews},
};

/// How often jobs are looked at without a reason.
const TICK: Duration = Duration::from_secs(1);
/// So many words are taken before what they lead to is carried out.
const WORDS_MAX: usize = 1024;

/// A trainer's stream; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct StreamId(pub(crate) u64);

/// How everything else reaches the hub.
#[derive(Clone, Debug)]
pub(crate) struct Address(Sender<Word>);

impl Address {
    pub(crate) const fn new(sender: Sender<Word>) -> Self {
        Self(sender)
    }

    /// Never blocks. After the hub's end nobody listens, and nobody has to.
    pub(crate) fn tell(&self, word: Word) {
        let _ = self.0.send(word);
    }

    /// Asks and waits.
    pub(crate) async fn ask<T>(
        &self,
        question: impl FnOnce(oneshot::Sender<T>) -> Word,
    ) -> Result<T, Status> {
        let (sender, receiver) = oneshot::channel();
        self.tell(question(sender));
        receiver.await.map_err(|_| Status::unavailable("the engine is stopping"))
    }
}

/// Something that happened.
#[derive(Debug)]
pub(crate) enum Word {
    /// A trainer has opened a stream.
    Opened {
        stream: StreamId,
        outbox: Outbox,
        /// It comes over loopback.
        is_local: bool,
    },
    /// It says something. The permit bounds how much of it waits.
    Said(StreamId, Box<wire::DriveRequest>, OwnedSemaphorePermit),
    /// Sockets have taken something.
    Taken(Vec<Taken>),
    /// What a stream says makes no sense.
    Broken(StreamId, Status),
    /// A stream is gone.
    Closed(StreamId),
    /// A player tells something, of the environment with this place in the configuration.
    Played(usize, Played, Permit),
    /// The journal tells something.
    Journal(News),
    /// Something becomes of a consumer's ring.
    Ring(ConsumerId, RingId, RingNews),
    /// A policy's stream asks for its desk.
    Desk(String, oneshot::Sender<Result<Seat, Refusal>>),
    /// Someone asks how things stand.
    Status(oneshot::Sender<wire::StatusResponse>),
    /// Someone asks what came of a job's tasks.
    Tasks(wire::TasksRequest, oneshot::Sender<Result<wire::TasksResponse, Refusal>>),
    /// Someone asks for the environments.
    Environments(oneshot::Sender<wire::ListEnvironmentsResponse>),
    /// Someone asks for figures: they are to be brought up to date.
    Metrics(oneshot::Sender<()>),
    /// Nothing new is to be begun.
    Drain(oneshot::Sender<wire::DrainResponse>),
    /// Write everything down and stop.
    Stop,
}

/// What a policy's stream has to know of its job.
#[derive(Clone, Debug)]
pub(crate) struct Seat {
    pub(crate) desk: Desk,
    /// Members of each group.
    pub(crate) members: u64,
}

/// What jobs may name.
pub(crate) struct Offer {
    pub(crate) environments: Vec<Environment>,
    pub(crate) task_sets: BTreeMap<String, Tasks>,
    pub(crate) scorers: BTreeMap<String, Scoring>,
}

pub(crate) struct Hub {
    options: ServiceOptions,
    task_sets: BTreeMap<String, Tasks>,
    scorers: BTreeMap<String, Scoring>,
    environments: Vec<Environment>,
    delivery: Delivery,
    scribe: Scribe,
    /// The batch that the journal writes now.
    writing: Option<Ticket>,
    journal_failure: String,
    next_job: u64,
    incarnation: u64,
    began: Instant,
    jobs: BTreeMap<JobKey, Job>,
    /// By what trainers call them.
    ids: HashMap<String, JobKey>,
    streams: HashMap<StreamId, Stream>,
    /// A stream as a consumer of one job.
    consumers: HashMap<ConsumerId, (StreamId, JobKey)>,
    rings: Rings,
    next_consumer: u64,
    /// What is said when everything that was done so far is on disk.
    promises: Vec<Promise>,
    /// What is said when the batch that is being written is.
    written: Vec<Promise>,
    is_draining: bool,
    metrics: Metrics,
    told_at: Instant,
}

#[derive(Debug)]
struct Stream {
    outbox: Outbox,
    is_local: bool,
    /// The jobs that it is attached to.
    attached: BTreeMap<JobKey, Attachment>,
}

#[derive(Clone, Copy, Debug)]
struct Attachment {
    consumer: ConsumerId,
    rank: u32,
}

impl Hub {
    pub(crate) fn run(mut self, words: Receiver<Word>) {
        while self.turn(&words, TICK) {}
        // A player that waits to be heard goes on: what it has to say is played again.
        drop(words);
        self.finish();
    }

    /// Takes the words that have gathered, or the next if it comes within this time, and does what they
    /// lead to. False if it is to end.
    pub(crate) fn turn(&mut self, words: &Receiver<Word>, wait: Duration) -> bool {
        let first = words.recv_timeout(wait);
        let mut goes_on = !matches!(first, Err(RecvTimeoutError::Disconnected));
        for word in first.into_iter().chain(words.try_iter()).take(WORDS_MAX) {
            goes_on &= !matches!(word, Word::Stop);
            self.take(word);
        }
        if self.told_at.elapsed() >= TICK {
            self.told_at = Instant::now();
            self.tick();
        }
        self.carry_out();
        self.write();
        goes_on
    }

    fn take(&mut self, word: Word) {
        match word {
            Word::Opened { stream, outbox, is_local } => self.open(stream, outbox, is_local),
            Word::Said(stream, request, permit) => {
                self.on_request(stream, *request);
                drop(permit);
            }
            Word::Taken(taken) => {
                for Taken { job, consumer, bytes } in taken {
                    // What is said of a job that was forgotten meanwhile does not matter.
                    let _ = self.delivery.taken(job, consumer, bytes);
                }
            }
            Word::Broken(stream, status) => {
                if let Some(its) = self.streams.get(&stream) {
                    its.outbox.end(status);
                }
                self.close(stream);
            }
            Word::Closed(stream) => self.close(stream),
            Word::Played(environment, played, permit) => {
                self.on_played(environment, played);
                drop(permit);
            }
            Word::Journal(news) => self.on_journal(news),
            Word::Ring(consumer, ring, news) => self.on_ring(consumer, ring, news),
            Word::Desk(id, answer) => {
                let _ = answer.send(self.seat(&id));
            }
            Word::Status(answer) => {
                let _ = answer.send(self.status());
            }
            Word::Tasks(request, answer) => {
                let _ = answer.send(self.tasks(&request));
            }
            Word::Environments(answer) => {
                let _ = answer.send(self.list_environments());
            }
            Word::Metrics(answer) => {
                self.measure();
                let _ = answer.send(());
            }
            Word::Drain(answer) => {
                let _ = answer.send(self.drain());
            }
            Word::Stop => {}
        }
    }

    /// Hands the journal what has changed, if it has written what it was handed before.
    fn write(&mut self) {
        if self.writing.is_none() {
            self.write_now();
        }
    }

    fn write_now(&mut self) {
        for (&key, job) in &mut self.jobs {
            for (name, value) in job.take_notes() {
                // The delivery has every job that the hub has.
                let _ = self.delivery.note(key, &name, value);
            }
        }
        let promises = std::mem::take(&mut self.promises);
        match self.delivery.batch() {
            Some(batch) => {
                self.writing = Some(batch.ticket);
                self.written.extend(promises);
                self.scribe.write(batch);
            }
            // It is on disk already.
            None => self.keep_promises(promises),
        }
    }

    fn on_journal(&mut self, news: News) {
        match news {
            News::Committed(ticket) => {
                self.writing = None;
                self.journal_failure.clear();
                let written = std::mem::take(&mut self.written);
                self.keep_promises(written);
                self.delivery.committed(ticket);
            }
            News::Loaded { job, sequence, payload } => match payload {
                Some(payload) => self.delivery.loaded(job, sequence, payload),
                // It was acknowledged meanwhile.
                None => tracing::debug!(job = job.0, sequence, "a record is not there any more"),
            },
            News::WriteFails(error) => self.on_journal_failure(error.to_string()),
            News::ReadFails(error) => self.on_journal_failure(error.to_string()),
        }
    }

    fn on_journal_failure(&mut self, failure: String) {
        self.delivery.journal_fails();
        if self.journal_failure != failure {
            tracing::error!(failure, "the journal cannot be written; episodes pause until it can");
            self.warn(None, "disk", &failure);
        }
        self.journal_failure = failure;
    }

    /// A word to all streams of a job, or to all.
    fn warn(&self, job: Option<JobKey>, kind: &str, message: &str) {
        let id = job.and_then(|key| self.jobs.get(&key)).map(|job| job.id.clone());
        for stream in self.streams.values() {
            let is_meant = job.is_none_or(|key| stream.attached.contains_key(&key));
            if is_meant && !stream.outbox.is_behind() {
                stream.outbox.send(wire::drive_response::Response::Warning(wire::Warning {
                    job_id: id.clone().unwrap_or_default(),
                    kind: kind.into(),
                    message: message.into(),
                }));
            }
        }
    }

    /// Whether a stream is open.
    #[cfg(feature = "fuzzing")]
    pub(crate) fn is_open(&self, stream: StreamId) -> bool {
        self.streams.contains_key(&stream)
    }

    /// Whether something is on its way to the journal.
    #[cfg(feature = "fuzzing")]
    pub(crate) const fn has_to_write(&self) -> bool {
        self.writing.is_some()
    }

    /// Everything that was told is written down, and trainers are told to come back.
    fn finish(mut self) {
        self.write_now();
        for stream in self.streams.values() {
            stream.outbox.end(Status::unavailable("the engine is stopping; come back later"));
        }
        let _ = self.scribe.finish();
    }
}
