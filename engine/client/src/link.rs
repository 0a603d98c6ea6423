//! The stream behind [`Rollouts`](crate::Rollouts): made again when it breaks.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use envmill_wire::{self as wire, drive_request::Request, drive_response::Response};
use tokio::{
    sync::{mpsc, oneshot},
    time::sleep,
};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Code, Status, Streaming};

use crate::{
    Delivered, Error, Event, RolloutsOptions,
    client::Stub,
    error::{is_passing, reason},
    memory::Memory,
    parts::Parts,
    taken::{Taken, is_worth_it},
};

/// The pauses between attempts to connect: the first, and the longest.
pub(crate) const PAUSES: (Duration, Duration) =
    (Duration::from_millis(100), Duration::from_secs(5));

/// How a stream comes to its job.
#[derive(Debug)]
pub(crate) enum Way {
    Submit(Box<wire::SubmitJob>),
    Attach(wire::AttachJob),
}

/// What the other end wants.
#[derive(Debug)]
pub(crate) enum Ask {
    /// Something of the service, and who waits for the answer.
    Request(Box<Request>, oneshot::Sender<Result<(), Error>>),
    /// Room for more records: see [`Taken`].
    Taken,
}

pub(crate) struct Link {
    stub: Stub,
    way: Way,
    options: RolloutsOptions,
    events: mpsc::UnboundedSender<Result<Event, Error>>,
    /// What of `held` was taken meanwhile.
    taken: Arc<Taken>,
    /// What was asked for and not answered.
    waiting: BTreeMap<u64, (Request, oneshot::Sender<Result<(), Error>>)>,
    next_request: u64,
    /// Numbers that have come and whose acknowledgement is not on the service's disk: what comes under them
    /// again is no news.
    seen: BTreeSet<u64>,
    /// The share of a batch that is on its way.
    share: Option<Share>,
    /// Records that have come and were not taken, and their bytes.
    held: (u64, u64),
    /// What the service may still send on this connection.
    granted: (u64, i64),
    in_batches: bool,
    incarnation: u64,
}

/// A share of a batch that was asked for and is not there.
struct Share {
    wish: wire::NextBatch,
    /// How many deliveries are missing; `None` before the first.
    missing: Option<u64>,
}

/// Why a connection is over.
enum End {
    /// It broke.
    Broken(Status),
    /// Nobody listens any more.
    Deserted,
    /// It cannot go on.
    Fatal(Error),
}

struct Connection {
    said: mpsc::UnboundedSender<wire::DriveRequest>,
    heard: Streaming<wire::DriveResponse>,
    parts: Parts,
    /// Where records come through, if not through this.
    memory: Option<Memory>,
}

impl Connection {
    fn say(&self, request_id: u64, request: Request) {
        // If it has gone, hearing says so.
        let _ = self.said.send(wire::DriveRequest { request_id, request: Some(request) });
    }

    async fn hear(&mut self) -> Result<Response, End> {
        loop {
            match self.heard.message().await {
                Ok(Some(wire::DriveResponse { response: Some(response) })) => return Ok(response),
                // What this version does not know.
                Ok(Some(wire::DriveResponse { response: None })) => {}
                Ok(None) => return Err(End::Broken(Status::unavailable("the stream has ended"))),
                Err(status) if is_passing(&status) => return Err(End::Broken(status)),
                Err(status) => return Err(End::Fatal(Error::of(&status))),
            }
        }
    }
}

impl Link {
    pub(crate) fn new(
        stub: Stub,
        way: Way,
        options: RolloutsOptions,
        events: mpsc::UnboundedSender<Result<Event, Error>>,
        taken: Arc<Taken>,
    ) -> Self {
        Self {
            stub,
            way,
            options,
            events,
            taken,
            waiting: BTreeMap::new(),
            next_request: 1,
            seen: BTreeSet::new(),
            share: None,
            held: (0, 0),
            granted: (0, 0),
            in_batches: false,
            incarnation: 0,
        }
    }

    /// Until nobody listens, or it cannot go on.
    pub(crate) async fn run(
        mut self,
        mut asks: mpsc::UnboundedReceiver<Ask>,
        accepting: oneshot::Sender<Result<wire::JobAccepted, Error>>,
    ) {
        let mut accepting = Some(accepting);
        let mut broken_since = None;
        let mut pause = PAUSES.0;
        loop {
            let events = self.events.clone();
            let connected = tokio::select! {
                connected = self.connect() => connected,
                () = events.closed() => Err(End::Deserted),
            };
            let end = match connected {
                Ok((connection, accepted)) => {
                    (broken_since, pause) = (None, PAUSES.0);
                    if let Some(accepting) = accepting.take() {
                        let _ = accepting.send(Ok(accepted));
                    }
                    self.talk(connection, &mut asks).await
                }
                Err(end) => end,
            };
            let error = match end {
                End::Deserted => return,
                End::Fatal(error) => error,
                End::Broken(status) => {
                    let since = *broken_since.get_or_insert_with(Instant::now);
                    // Nobody knows whether a job without a name was taken on.
                    let may_try = accepting.is_none() || self.has_name();
                    if may_try && since.elapsed() < self.options.reconnect_for {
                        tracing::info!(%status, ?pause, "the connection broke; it is made again");
                        tokio::select! {
                            () = sleep(pause) => {}
                            () = self.events.closed() => return,
                        }
                        pause = (pause * 2).min(PAUSES.1);
                        continue;
                    }
                    Error::Unreachable(reason(&status))
                }
            };
            if let Some(accepting) = accepting {
                let _ = accepting.send(Err(error));
                return;
            }
            for (_, asker) in std::mem::take(&mut self.waiting).into_values() {
                let _ = asker.send(Err(error.clone()));
            }
            let _ = self.events.send(Err(error));
            return;
        }
    }

    fn has_name(&self) -> bool {
        match &self.way {
            Way::Submit(job) => !job.name.is_empty(),
            Way::Attach(_) => true,
        }
    }

    /// Opens the stream and comes to the job; says again what was not answered.
    async fn connect(&mut self) -> Result<(Connection, wire::JobAccepted), End> {
        let (said, receiver) = mpsc::unbounded_channel();
        let opened = self.stub.clone().drive(UnboundedReceiverStream::new(receiver)).await;
        let heard = match opened {
            Ok(opened) => opened.into_inner(),
            Err(status) if is_passing(&status) => return Err(End::Broken(status)),
            Err(status) => return Err(End::Fatal(Error::of(&status))),
        };
        let mut connection = Connection { said, heard, parts: Parts::default(), memory: None };
        let request = match &self.way {
            Way::Submit(job) => Request::Submit((**job).clone()),
            Way::Attach(attach) => Request::Attach(wire::AttachJob { ..attach.clone() }),
        };
        let request_id = self.next_request;
        self.next_request += 1;
        connection.say(request_id, request);
        let accepted = loop {
            match connection.hear().await? {
                Response::Hello(hello) => self.meet(&hello)?,
                Response::Accepted(accepted) => break accepted,
                Response::Refused(refused) => return Err(End::Fatal(of(refused))),
                _ => {}
            }
        };
        let rank = match &self.way {
            Way::Submit(_) => 0,
            Way::Attach(attach) => attach.rank,
        };
        let job = accepted.job.as_ref();
        let delivery = job.and_then(|job| job.delivery).unwrap_or_default();
        self.in_batches = delivery.order() == wire::Order::Batches;
        let cursor = match &self.way {
            Way::Attach(attach) => attach.cursor,
            Way::Submit(_) => 0,
        };
        self.way = Way::Attach(wire::AttachJob { job_id: accepted.job_id.clone(), rank, cursor });
        self.granted = (0, 0);
        if let Some(ring_bytes) = self.options.shared_memory {
            self.share_memory(&mut connection, &accepted.job_id, ring_bytes).await?;
        }
        self.grant(&connection, true);
        self.begin_share_anew(&connection);
        for (&request_id, (request, _)) in &self.waiting {
            connection.say(request_id, request.clone());
        }
        Ok((connection, accepted))
    }

    /// A share that has come in part comes again as a whole.
    fn begin_share_anew(&mut self, connection: &Connection) {
        let Some(share) = &mut self.share else { return };
        share.missing = None;
        self.seen.clear();
        let is_next_batch = |(request, _): &(Request, _)| matches!(request, Request::NextBatch(_));
        if !self.waiting.values().any(is_next_batch) {
            let request_id = self.next_request;
            self.next_request += 1;
            connection.say(request_id, Request::NextBatch(share.wish.clone()));
        }
    }

    /// Asks for memory to share. Without it the connection does as well.
    async fn share_memory(
        &mut self,
        connection: &mut Connection,
        job_id: &str,
        ring_bytes: u64,
    ) -> Result<(), End> {
        let mut token = vec![0; wire::meeting::TOKEN_BYTES_MAX];
        if let Err(error) = getrandom::fill(&mut token) {
            tracing::warn!(%error, "there is nothing random; records come through the connection");
            return Ok(());
        }
        let request_id = self.next_request;
        self.next_request += 1;
        let request = wire::UseSharedMemory {
            job_id: job_id.to_owned(),
            ring_bytes,
            records: 0,
            token: token.clone().into(),
        };
        connection.say(request_id, Request::UseSharedMemory(request));
        let met = loop {
            match connection.hear().await? {
                Response::SharedMemory(it) if it.request_id == request_id => break it,
                Response::Refused(it) if it.request_id == request_id => {
                    let why = it.message;
                    tracing::warn!(why, "no memory is shared; records come through the connection");
                    return Ok(());
                }
                other => self.on_response(connection, other)?,
            }
        };
        let fetching = tokio::task::spawn_blocking(move || {
            Memory::fetch(met.socket.as_ref(), &token, met.ring_bytes)
        });
        match fetching.await.unwrap_or_else(|error| Err(error.to_string())) {
            Ok(memory) => connection.memory = Some(memory),
            Err(why) => {
                tracing::warn!(why, "no memory is shared; records come through the connection");
            }
        }
        Ok(())
    }

    /// An engine that was superseded has nothing to say.
    fn meet(&mut self, hello: &wire::Hello) -> Result<(), End> {
        if hello.incarnation < self.incarnation {
            return Err(End::Fatal(Error::Nonsense(format!(
                "it is incarnation {} and incarnation {} was here before: another engine has its store",
                hello.incarnation, self.incarnation
            ))));
        }
        self.incarnation = hello.incarnation;
        Ok(())
    }

    async fn talk(
        &mut self,
        mut connection: Connection,
        asks: &mut mpsc::UnboundedReceiver<Ask>,
    ) -> End {
        loop {
            tokio::select! {
                // What was asked for before nobody listened any more is said.
                biased;
                ask = asks.recv() => match ask {
                    None => return End::Deserted,
                    Some(Ask::Request(request, asker)) => {
                        if let Err(end) = self.ask(&connection, *request, asker) {
                            return end;
                        }
                    }
                    Some(Ask::Taken) => self.grant(&connection, false),
                },
                () = self.events.closed() => return End::Deserted,
                response = connection.hear() => {
                    let taken = match response {
                        Ok(response) => self.on_response(&mut connection, response),
                        Err(end) => return end,
                    };
                    if let Err(end) = taken {
                        return end;
                    }
                }
            }
        }
    }

    fn ask(
        &mut self,
        connection: &Connection,
        request: Request,
        asker: oneshot::Sender<Result<(), Error>>,
    ) -> Result<(), End> {
        match &request {
            // What comes again is wanted again.
            Request::Rewind(_) => {
                self.seen.clear();
                self.events.send(Ok(Event::Rewound)).map_err(|_| End::Deserted)?;
            }
            Request::NextBatch(wish) if self.in_batches => {
                self.seen.clear();
                self.share = Some(Share { wish: wish.clone(), missing: None });
            }
            _ => {}
        }
        let request_id = self.next_request;
        self.next_request += 1;
        connection.say(request_id, request.clone());
        self.waiting.insert(request_id, (request, asker));
        Ok(())
    }

    fn forget(&mut self, first: u64, last: u64) {
        if first <= last {
            let mut rest = self.seen.split_off(&first);
            let mut later = rest.split_off(&last);
            later.remove(&last);
            self.seen.append(&mut later);
        }
    }

    /// Lets the service send as much as there is room for, when that is worth a message.
    fn grant(&mut self, connection: &Connection, is_first: bool) {
        let Way::Attach(attach) = &self.way else { return };
        let (taken_records, taken_bytes) = self.taken.all();
        self.held.0 = self.held.0.saturating_sub(taken_records);
        self.held.1 = self.held.1.saturating_sub(taken_bytes);
        let RolloutsOptions { window_records, window_bytes, .. } = self.options;
        let room = |window: u64, held: u64, granted: u64| {
            window.saturating_sub(held).saturating_sub(granted)
        };
        let granted = u64::try_from(self.granted.1).unwrap_or(0);
        let records = room(window_records.max(1), self.held.0, self.granted.0);
        let bytes = room(window_bytes.max(1), self.held.1, granted);
        if is_first || is_worth_it(records, window_records) || is_worth_it(bytes, window_bytes) {
            self.granted.0 += records;
            self.granted.1 += i64::try_from(bytes).unwrap_or(i64::MAX / 2);
            let job_id = attach.job_id.clone();
            connection.say(0, Request::Credit(wire::GrantCredit { job_id, records, bytes }));
        }
    }

    fn on_response(&mut self, connection: &mut Connection, response: Response) -> Result<(), End> {
        let event = match response {
            Response::Delivery(delivery) => match connection.parts.take(delivery) {
                Ok(Some(delivery)) => return self.on_delivery(connection, &delivery),
                Ok(None) => return Ok(()),
                Err(error) => return Err(End::Fatal(error)),
            },
            Response::Done(done) => {
                return self.answered(done.request_id, Ok(()));
            }
            Response::Refused(refused) => {
                return self.answered(refused.request_id, Err(of(refused)));
            }
            Response::Replaced(_) => {
                let problem = "another stream has taken its place in the job".into();
                return Err(End::Fatal(Error::Over(problem)));
            }
            Response::Hello(_) | Response::Accepted(_) | Response::SharedMemory(_) => return Ok(()),
            Response::Batch(batch) => {
                self.share.take_if(|share| {
                    if share.wish.index == batch.index {
                        share.missing = Some(batch.deliveries);
                    }
                    share.missing == Some(0)
                });
                Event::Batch(batch)
            }
            Response::NoMoreBatches(_) => {
                self.share = None;
                Event::NoMoreBatches
            }
            Response::Progress(progress) => Event::Progress(Box::new(progress)),
            Response::Warning(warning) => Event::Warning(warning),
            Response::VersionCurrent(it) => Event::VersionCurrent(it.version.unwrap_or_default()),
            Response::Settled(_) => Event::Settled,
        };
        self.events.send(Ok(event)).map_err(|_| End::Deserted)
    }

    fn on_delivery(
        &mut self,
        connection: &mut Connection,
        delivery: &wire::Delivery,
    ) -> Result<(), End> {
        let nonsense = |problem: String| {
            End::Fatal(Error::Nonsense(format!("delivery {}: {problem}", delivery.number)))
        };
        let (record, in_place) = match &delivery.content {
            Some(wire::Content::InMemory(it)) => {
                let Some(memory) = &mut connection.memory else {
                    // It was fetched, but too late: with a new connection the record comes again.
                    return Err(End::Broken(Status::unavailable("no memory is shared yet")));
                };
                let found = memory.take(it.sequence).map_err(nonsense)?;
                let record = if self.options.in_place { found.rest() } else { found.whole() };
                let record = record.map_err(|error| nonsense(error.to_string()))?;
                let record = wire::Record::Trajectory(Box::new(record));
                (record, self.options.in_place.then_some(found))
            }
            _ => match delivery.record() {
                Ok(Some(record)) => (record, None),
                Ok(None) => return Err(nonsense("it holds nothing".into())),
                Err(error) => return Err(nonsense(error.to_string())),
            },
        };
        let delivered = Delivered {
            number: delivery.number,
            redelivered: delivery.redelivered,
            group_id: delivery.group_id,
            version: delivery.version.unwrap_or_default(),
            judged_at: delivery.judged_at.unwrap_or_default(),
            index: delivery.index,
            bytes: delivery.content.as_ref().map_or(0, wire::Content::bytes),
            record,
            in_place,
        };
        let size = delivered.bytes;
        self.granted.0 = self.granted.0.saturating_sub(1);
        self.granted.1 = self.granted.1.saturating_sub_unsigned(size);
        if !self.seen.insert(delivered.number) {
            // It came again with a new connection.
            self.grant(connection, false);
            return Ok(());
        }
        self.share.take_if(|share| {
            share.missing = share.missing.map(|missing| missing.saturating_sub(1));
            share.missing == Some(0)
        });
        self.held.0 += 1;
        self.held.1 += size;
        self.events.send(Ok(Event::Delivered(Box::new(delivered)))).map_err(|_| End::Deserted)
    }

    fn answered(&mut self, request_id: u64, answer: Result<(), Error>) -> Result<(), End> {
        let Some((request, asker)) = self.waiting.remove(&request_id) else {
            if let Err(error) = answer {
                tracing::warn!(%error, "the service refuses something that nobody waits for");
            }
            return Ok(());
        };
        let was_done = answer.is_ok();
        let _ = asker.send(answer);
        match request {
            Request::Acknowledge(it) if was_done => {
                for range in it.ranges {
                    self.forget(range.first, range.last);
                }
            }
            Request::NextBatch(_) if !was_done => self.share = None,
            // Who asked for it has thrown away what had come.
            Request::Rewind(_) if !was_done => {
                return Err(End::Broken(Status::unavailable("a refused rewind begins anew")));
            }
            _ => {}
        }
        Ok(())
    }
}

fn of(refused: wire::Refused) -> Error {
    Error::Refused { code: Code::from_i32(refused.code), message: refused.message }
}
