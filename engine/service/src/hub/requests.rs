//! What trainers say on their streams.

use std::ops::RangeInclusive;

use envmill_core::InFlight;
use envmill_delivery::{ConsumerId, JobKey};
use envmill_wire::{self as wire, drive_request::Request as Said, drive_response::Response};

use super::{
    Attachment, Hub, Seat, Stream, StreamId,
    account::{delivered, played},
    outputs::version,
};
use crate::{
    Order, Weights,
    ledger::Ending,
    metrics::Code,
    outflow::Outbox,
    refusal::Refusal,
    request::{self, Request},
};

/// What becomes of a request that was carried out.
pub(super) enum Answer {
    /// It is answered by `Done` when it is on disk.
    OnDisk,
    /// It is answered by `Done`.
    Now,
    /// It has an answer of its own.
    Own,
}

impl Hub {
    pub(crate) fn open(&mut self, stream: StreamId, outbox: Outbox, is_local: bool) {
        outbox.send(Response::Hello(wire::Hello {
            engine_version: env!("CARGO_PKG_VERSION").into(),
            incarnation: self.incarnation,
            part_bytes: self.options.part_bytes as u64,
        }));
        self.streams.insert(stream, Stream { outbox, is_local, attached: Default::default() });
    }

    pub(super) fn close(&mut self, stream: StreamId) {
        let Some(stream) = self.streams.remove(&stream) else { return };
        for (key, Attachment { consumer, .. }) in stream.attached {
            self.leave(key, consumer);
        }
    }

    fn leave(&mut self, key: JobKey, consumer: ConsumerId) {
        self.unseat(consumer);
        self.delivery.detach(consumer);
        if let Some(job) = self.jobs.get_mut(&key) {
            job.seen_at = std::time::Instant::now();
        }
    }

    pub(crate) fn on_request(&mut self, stream: StreamId, request: wire::DriveRequest) {
        if !self.streams.contains_key(&stream) {
            return;
        }
        let request_id = request.request_id;
        let said = request.request.ok_or_else(|| {
            Refusal::argument("request: none is set, or one that this version does not know")
        });
        let answer = said.and_then(|said| self.carry_out_request(stream, request_id, said));
        if let Err(refusal) = &answer {
            let code = Code { code: format!("{:?}", refusal.code) };
            self.metrics.refused.get_or_create(&code).inc();
        }
        let Some(its) = self.streams.get(&stream) else { return };
        let done = Response::Done(wire::Done { request_id });
        match answer {
            Ok(Answer::Own) => {}
            Ok(_) if request_id == 0 => {}
            Ok(Answer::Now) => its.outbox.send(done),
            Ok(Answer::OnDisk) => self.promise(stream, done),
            Err(refusal) if request_id == 0 => {
                its.outbox.end(refusal.into());
                self.close(stream);
            }
            Err(Refusal { code, message }) => its.outbox.send(Response::Refused(wire::Refused {
                request_id,
                code: code.into(),
                message,
            })),
        }
    }

    fn carry_out_request(
        &mut self,
        stream: StreamId,
        request_id: u64,
        said: Said,
    ) -> Result<Answer, Refusal> {
        match said {
            Said::Submit(job) => self.submit(stream, request_id, job),
            Said::Attach(it) => self.attach(stream, request_id, &it),
            Said::Detach(it) => {
                let key = self.key(&it.job_id)?;
                let its = self.streams.get_mut(&stream);
                if let Some(attachment) = its.and_then(|its| its.attached.remove(&key)) {
                    self.leave(key, attachment.consumer);
                }
                Ok(Answer::Now)
            }
            Said::Credit(it) => {
                let (key, attachment) = self.attachment(stream, &it.job_id)?;
                self.delivery.credit(key, attachment.consumer, it.records, it.bytes)?;
                Ok(Answer::Now)
            }
            Said::Acknowledge(it) => self.acknowledge(stream, &it),
            Said::Announce(it) => self.announce(stream, &it),
            Said::Pause(it) => self.wish(stream, &it.job_id, |hub, key| {
                hub.ledger(key, |ledger| ledger.is_paused = true);
                hub.pace(key);
            }),
            Said::Resume(it) => self.wish(stream, &it.job_id, |hub, key| {
                hub.ledger(key, |ledger| ledger.is_paused = false);
                hub.pace(key);
            }),
            Said::Drain(it) => self.end_early(stream, &it.job_id, Ending::Drained),
            Said::Cancel(it) => self.end_early(stream, &it.job_id, Ending::Cancelled),
            Said::Durable(it) => {
                let key = self.owned(stream, &it.job_id)?;
                self.delivery.durable(key, &it.checkpoint)?;
                Ok(Answer::OnDisk)
            }
            Said::Rewind(it) => {
                let key = self.owned(stream, &it.job_id)?;
                let checkpoint = (!it.checkpoint.is_empty()).then_some(it.checkpoint.as_str());
                self.delivery.rewind(key, checkpoint)?;
                self.unsettle(key);
                Ok(Answer::OnDisk)
            }
            Said::NextBatch(it) => {
                let (key, attachment) = self.attachment(stream, &it.job_id)?;
                self.delivery.want(key, attachment.consumer, it.index, it.groups)?;
                Ok(Answer::Now)
            }
            Said::ReleaseShare(it) => {
                let (key, attachment) = self.attachment(stream, &it.job_id)?;
                if attachment.rank != 0 && attachment.rank != it.rank {
                    return Err(not_owner("release another rank's share"));
                }
                self.delivery.release_share(key, it.index, it.rank)?;
                Ok(Answer::OnDisk)
            }
            Said::UseSharedMemory(it) => self.use_shared_memory(stream, request_id, &it),
        }
    }

    fn submit(
        &mut self,
        stream: StreamId,
        request_id: u64,
        job: wire::SubmitJob,
    ) -> Result<Answer, Refusal> {
        if self.is_draining {
            return Err(Refusal::new(
                tonic::Code::Unavailable,
                "the engine drains and takes no more jobs",
            ));
        }
        let request = Request::read(job, &self.environments, &self.task_sets, &self.scorers)?;
        if let Some(key) = self.same(&request)? {
            self.sit(stream, key, 0, 0)?;
            // It may have been submitted a moment ago, and not be on disk.
            for response in self.welcome(key, request_id) {
                self.promise(stream, response);
            }
            return Ok(Answer::Own);
        }
        let key = self.accept(&request);
        self.sit(stream, key, 0, 0)?;
        let accepted = self.accepted(key, request_id, false);
        self.promise(stream, accepted);
        Ok(Answer::Own)
    }

    /// A job that was submitted before under the same name and is not forgotten.
    fn same(&self, request: &Request) -> Result<Option<JobKey>, Refusal> {
        let name = &request.job.name;
        let is_it = |job: &&super::Job| !name.is_empty() && job.asked.name == *name;
        let Some(job) = self.jobs.values().find(is_it) else { return Ok(None) };
        let mut shown = request.shown_beside(&job.asked);
        // What its task set had then are its tasks for ever.
        let has_its_tasks = request.is_of_set || job.tasks == super::job::digest(&request.job);
        if request.is_of_set && shown.epochs > 0 {
            (shown.episodes, shown.groups) = (job.asked.episodes, job.asked.groups);
        }
        if job.asked == shown && has_its_tasks {
            return Ok(Some(job.key));
        }
        Err(Refusal::new(
            tonic::Code::AlreadyExists,
            format!(
                "name: the job `{}` has it and asks for something else; take another name, or attach to it",
                job.id
            ),
        ))
    }

    fn accepted(&self, key: JobKey, request_id: u64, existed: bool) -> Response {
        let job = self.jobs.get(&key);
        let standing = self.delivery.standing(key);
        Response::Accepted(wire::JobAccepted {
            request_id,
            job_id: job.map(|job| job.id.clone()).unwrap_or_default(),
            job: job.map(|job| job.asked.clone()),
            existed,
            last_number: standing.as_ref().map_or(0, |it| it.last_number),
            version: standing.map(|it| version(it.version)),
        })
    }

    fn attach(
        &mut self,
        stream: StreamId,
        request_id: u64,
        it: &wire::AttachJob,
    ) -> Result<Answer, Refusal> {
        let key = self.key(&it.job_id)?;
        self.sit(stream, key, it.rank, it.cursor)?;
        if let Some(its) = self.streams.get(&stream) {
            for response in self.welcome(key, request_id) {
                its.outbox.send(response);
            }
        }
        Ok(Answer::Own)
    }

    /// What a stream that has come back for a job is told of it.
    fn welcome(&self, key: JobKey, request_id: u64) -> Vec<Response> {
        let mut told = vec![self.accepted(key, request_id, true)];
        if let Some(job) = self.jobs.get(&key).filter(|job| job.settled_at.is_some()) {
            told.push(Response::Settled(wire::Settled { job_id: job.id.clone() }));
        }
        told
    }

    /// Makes a stream the consumer of a rank.
    fn sit(
        &mut self,
        stream: StreamId,
        key: JobKey,
        rank: u32,
        cursor: u64,
    ) -> Result<(), Refusal> {
        let consumer = ConsumerId(self.next_consumer);
        self.next_consumer += 1;
        self.delivery.attach(key, rank, consumer, cursor)?;
        let Some(its) = self.streams.get_mut(&stream) else { return Ok(()) };
        if let Some(before) = its.attached.insert(key, Attachment { consumer, rank }) {
            // The same stream under another rank, or again: only the last one counts.
            self.unseat(before.consumer);
            self.delivery.detach(before.consumer);
        }
        self.consumers.insert(consumer, (stream, key));
        Ok(())
    }

    fn acknowledge(&mut self, stream: StreamId, it: &wire::Acknowledge) -> Result<Answer, Refusal> {
        let (key, _) = self.attachment(stream, &it.job_id)?;
        let singles = it.numbers.iter().map(|&number| number..=number);
        let ranges = it.ranges.iter().map(|range| range.first..=range.last);
        let ranges: Vec<RangeInclusive<u64>> = singles.chain(ranges).collect();
        if let Some(empty) = ranges.iter().find(|range| range.is_empty()) {
            let problem = format!("ranges: {}–{} is none", empty.start(), empty.end());
            return Err(Refusal::argument(problem));
        }
        let checkpoint = (!it.checkpoint.is_empty()).then_some(it.checkpoint.as_str());
        self.delivery.acknowledge(key, &ranges, checkpoint)?;
        self.drop_held(key, &ranges);
        Ok(Answer::OnDisk)
    }

    fn announce(
        &mut self,
        stream: StreamId,
        it: &wire::AnnounceVersion,
    ) -> Result<Answer, Refusal> {
        let key = self.owned(stream, &it.job_id)?;
        let announced = wire::policy_version(it.version.as_ref())
            .ok_or_else(|| Refusal::argument("version: too large"))?;
        let Some(job) = self.jobs.get_mut(&key) else { return Err(Refusal::no_job(&it.job_id)) };
        let in_flight = it.in_flight.map_or(Ok(job.in_flight), request::in_flight)?;
        if !it.weights.is_empty() && !job.has_model {
            return Err(Refusal::argument(request::NO_WEIGHTS));
        }
        let current = self.delivery.version(key).unwrap_or_default();
        let waits = in_flight == InFlight::Drain && announced > played(current);
        let weights = job.has_model.then(|| Weights {
            version: announced,
            folder: (!it.weights.is_empty()).then(|| it.weights.clone().into()),
            // What is announced again is waited for by nobody.
            in_flight: if waits { InFlight::Drain } else { InFlight::Keep },
            abort: it.in_flight.map_or(job.aborts, |it| it == wire::InFlight::Resume as i32),
        });
        if waits {
            // What is in flight is made on the old version and is not to be stale for that: the
            // delivery hears of the new one when the last of it is over.
            job.pending = job.pending.max(Some(announced));
        } else {
            self.delivery.announce(key, delivered(announced))?;
        }
        if let Some(weights) = weights {
            self.order(key, Order::Weights(weights));
        }
        self.order(key, Order::Version(announced, in_flight));
        Ok(Answer::OnDisk)
    }

    fn end_early(&mut self, stream: StreamId, id: &str, how: Ending) -> Result<Answer, Refusal> {
        self.wish(stream, id, |hub, key| {
            hub.ledger(key, |ledger| ledger.ending = ledger.ending.max(how.into()));
            hub.order(key, if how == Ending::Drained { Order::Drain } else { Order::Cancel });
        })
    }

    /// Something that a job's owner may wish.
    fn wish(
        &mut self,
        stream: StreamId,
        id: &str,
        carry_out: impl FnOnce(&mut Self, JobKey),
    ) -> Result<Answer, Refusal> {
        let key = self.owned(stream, id)?;
        carry_out(self, key);
        Ok(Answer::OnDisk)
    }

    fn ledger(&mut self, key: JobKey, change: impl FnOnce(&mut crate::ledger::Ledger)) {
        if let Some(job) = self.jobs.get_mut(&key) {
            change(job.ledger());
        }
    }

    fn unsettle(&mut self, key: JobKey) {
        if let Some(job) = self.jobs.get_mut(&key) {
            job.settled_at = None;
        }
    }

    fn key(&self, id: &str) -> Result<JobKey, Refusal> {
        self.ids.get(id).copied().ok_or_else(|| Refusal::no_job(id))
    }

    pub(super) fn attachment(
        &self,
        stream: StreamId,
        id: &str,
    ) -> Result<(JobKey, Attachment), Refusal> {
        let key = self.key(id)?;
        let its = self.streams.get(&stream).and_then(|its| its.attached.get(&key));
        let attachment = its.copied().ok_or_else(|| {
            Refusal::state(format!("the stream is not attached to `{id}`: send `attach` first"))
        })?;
        Ok((key, attachment))
    }

    fn owned(&self, stream: StreamId, id: &str) -> Result<JobKey, Refusal> {
        let (key, attachment) = self.attachment(stream, id)?;
        if attachment.rank != 0 {
            return Err(not_owner("decide about the job"));
        }
        Ok(key)
    }

    /// A policy's stream comes for its desk.
    pub(super) fn seat(&self, id: &str) -> Result<Seat, Refusal> {
        let key = self.key(id)?;
        let job = self.jobs.get(&key).ok_or_else(|| Refusal::no_job(id))?;
        let desk = job.desk.clone().ok_or_else(|| {
            Refusal::state(format!("the policy of `{id}` is not `trainer`: it asks nobody"))
        })?;
        Ok(Seat { desk, members: job.members })
    }
}

fn not_owner(what: &str) -> Refusal {
    Refusal::new(
        tonic::Code::PermissionDenied,
        format!("only rank 0, which owns the job, may {what}"),
    )
}
