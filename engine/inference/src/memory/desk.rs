//! What is asked for and not answered yet.

use std::{
    collections::{HashMap, VecDeque},
    mem,
    sync::{Mutex, MutexGuard, PoisonError, atomic::AtomicU64},
};

use tokio::sync::{Notify, oneshot};

use crate::{Chunk, Error, ErrorKind, Feed, Finish, Finished, Generation, Request, RequestId};

use super::{
    VllmMemoryOptions,
    requests::{self, Order, Question},
    results::Told,
};

/// What a question is answered with.
pub(super) type Reply = Result<Vec<u8>, Error>;

/// Who has asked.
type Asking = oneshot::Sender<Reply>;

/// What the channel's handles and its task share.
#[derive(Debug)]
pub(super) struct Desk {
    pub(super) options: VllmMemoryOptions,
    /// What was last set as the engine's version.
    pub(super) version: AtomicU64,
    /// Tells the task that there is something to write.
    pub(super) wake: Notify,
    papers: Mutex<Papers>,
}

/// What lies on the desk.
#[derive(Debug, Default)]
pub(super) struct Papers {
    /// What is to be written, in order. Bounded: by `waiting_max` generations, each of which is aborted
    /// once and forgotten once, and by as many questions.
    pub(super) waiting: VecDeque<Order>,
    flights: HashMap<u64, Flight>,
    names: HashMap<RequestId, u64>,
    questions: HashMap<u64, Asking>,
    last: u64,
    /// A task works on this.
    pub(super) driven: bool,
    /// No handle is left.
    pub(super) closed: bool,
}

/// A generation under way.
#[derive(Debug)]
struct Flight {
    feed: Feed,
    id: RequestId,
    /// So many more tokens may come.
    left: u64,
    /// At each of them, so many of the most likely ones have to.
    top_logprobs: u32,
    sent: bool,
    aborted: bool,
}

/// What goes to whoever waits for it, once nobody holds the desk any more.
pub(super) enum Delivery {
    Chunk(Feed, Chunk),
    Failed(Feed, Error),
    Answer(Asking, Reply),
}

impl Flight {
    /// Counts what has come; or says what is wrong with it.
    fn take(&mut self, chunk: &Chunk) -> Result<(), &'static str> {
        let tokens = chunk.token_ids.len();
        let left = self.left.checked_sub(tokens as u64);
        self.left = left.ok_or("more tokens than were asked for")?;
        if chunk.top_logprobs.logprobs().len() != tokens * self.top_logprobs as usize {
            return Err("not as many of the most likely tokens as were asked for");
        }
        Ok(())
    }
}

impl Delivery {
    pub(super) fn deliver(self) {
        match self {
            Self::Chunk(feed, chunk) => feed.chunk(chunk),
            Self::Failed(feed, error) => feed.fail(error),
            Self::Answer(to, answer) => {
                // Whoever asked may not wait any more.
                let _ = to.send(answer);
            }
        }
    }
}

impl Desk {
    pub(super) fn new(options: VllmMemoryOptions) -> Self {
        Self {
            options,
            version: AtomicU64::new(0),
            wake: Notify::new(),
            papers: Mutex::new(Papers::default()),
        }
    }

    pub(super) fn papers(&self) -> MutexGuard<'_, Papers> {
        self.papers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a request in; its number, and whether a task is to be started.
    pub(super) fn generate(&self, request: Request) -> Result<(u64, Generation, bool), Error> {
        requests::fits_at_all(&request, &self.options)
            .map_err(|it| Error::new(ErrorKind::Refused, it))?;
        let (feed, generation) = Generation::new();
        let mut papers = self.papers();
        papers.has_room(self.options.waiting_max)?;
        let number = papers.number();
        papers.names.insert(request.id, number);
        let flight = Flight {
            feed,
            id: request.id,
            left: u64::from(request.max_tokens),
            top_logprobs: request.sampling.top_logprobs,
            sent: false,
            aborted: false,
        };
        papers.flights.insert(number, flight);
        papers.waiting.push_back(Order::Generate(number, Box::new(request)));
        let start = !mem::replace(&mut papers.driven, true);
        drop(papers);
        self.wake.notify_one();
        Ok((number, generation, start))
    }

    /// Takes a question in; where its answer comes, and whether a task is to be started.
    pub(super) fn ask(
        &self,
        question: Question,
        text: String,
    ) -> Result<(oneshot::Receiver<Reply>, bool), Error> {
        if text.len() > self.options.text_bytes as usize {
            return Err(Error::new(ErrorKind::Refused, "a text that fits into no batch"));
        }
        let (sender, answer) = oneshot::channel();
        let mut papers = self.papers();
        papers.has_room(self.options.waiting_max)?;
        let number = papers.number();
        papers.questions.insert(number, sender);
        papers.waiting.push_back(Order::Ask(number, question, text));
        let start = !mem::replace(&mut papers.driven, true);
        drop(papers);
        self.wake.notify_one();
        Ok((answer, start))
    }

    /// Nobody wants this generation any more.
    pub(super) fn forget(&self, number: u64) {
        let mut papers = self.papers();
        let Some(flight) = papers.remove(number) else { return };
        if flight.sent {
            papers.waiting.push_back(Order::Forget(number));
            drop(papers);
            self.wake.notify_one();
        }
    }

    /// Ends generations. Those that the plug-in does not know yet end here.
    pub(super) fn abort(&self, ids: &[RequestId]) {
        let mut papers = self.papers();
        let mut ended = Vec::new();
        for id in ids {
            let Some(number) = papers.names.get(id).copied() else { continue };
            let Some(flight) = papers.flights.get_mut(&number) else { continue };
            if !flight.sent {
                ended.extend(papers.remove(number));
            } else if !mem::replace(&mut flight.aborted, true) {
                papers.waiting.push_back(Order::Abort(number));
            }
        }
        drop(papers);
        for flight in ended {
            let finished = Some(Finished::new(Finish::Aborted));
            flight.feed.chunk(Chunk { finished, ..Chunk::default() });
        }
        self.wake.notify_one();
    }

    /// No handle is left: the task ends once all that is under way has.
    pub(super) fn close(&self) {
        self.papers().closed = true;
        self.wake.notify_one();
    }

    /// The connection is lost, and with it all that is under way.
    pub(super) fn lose(&self, error: &Error) {
        let mut papers = self.papers();
        papers.driven = false;
        papers.waiting.clear();
        papers.names.clear();
        let flights = mem::take(&mut papers.flights);
        let questions = mem::take(&mut papers.questions);
        drop(papers);
        for (_, flight) in flights {
            flight.feed.fail(error.clone());
        }
        for (_, answer) in questions {
            Delivery::Answer(answer, Err(error.clone())).deliver();
        }
    }
}

impl Papers {
    fn has_room(&self, waiting_max: usize) -> Result<(), Error> {
        if self.waiting.len() < waiting_max {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Busy, format!("{waiting_max} requests wait to be written")))
    }

    const fn number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    fn remove(&mut self, number: u64) -> Option<Flight> {
        let flight = self.flights.remove(&number)?;
        // The same name may have been given to a later one.
        if self.names.get(&flight.id) == Some(&number) {
            self.names.remove(&flight.id);
        }
        Some(flight)
    }

    /// Nothing is under way, and nothing to be written.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.flights.is_empty() && self.questions.is_empty()
    }

    /// Whether this row is still to be written. What nobody wants any more never gets to the plug-in.
    pub(super) fn is_wanted(&mut self, order: &Order) -> bool {
        match order {
            Order::Generate(number, _) => self.flights.contains_key(number),
            Order::Abort(number) => self.flights.contains_key(number),
            Order::Forget(_) | Order::Ask(..) => true,
        }
    }

    /// This row was written.
    pub(super) fn written(&mut self, order: &Order) {
        if let Order::Generate(number, _) = order
            && let Some(flight) = self.flights.get_mut(number)
        {
            flight.sent = true;
        }
    }

    /// Finds who gets what a row says. What nobody waits for is passed over: it was on its way when it
    /// was forgotten.
    pub(super) fn route(&mut self, number: u64, told: Told) -> Option<Delivery> {
        match told {
            Told::Chunk(chunk) => {
                let flight = self.flights.get_mut(&number)?;
                if let Err(wrong) = flight.take(&chunk) {
                    let flight = self.remove(number)?;
                    self.waiting.push_back(Order::Forget(number));
                    let error = Error::new(ErrorKind::Nonsense, wrong);
                    return Some(Delivery::Failed(flight.feed, error));
                }
                let feed = if chunk.finished.is_some() {
                    self.remove(number)?.feed
                } else {
                    flight.feed.clone()
                };
                Some(Delivery::Chunk(feed, chunk))
            }
            Told::Failed(error) => match self.questions.remove(&number) {
                Some(answer) => Some(Delivery::Answer(answer, Err(error))),
                None => Some(Delivery::Failed(self.remove(number)?.feed, error)),
            },
            Told::Done => Some(Delivery::Answer(self.questions.remove(&number)?, Ok(Vec::new()))),
            Told::Load(text) => Some(Delivery::Answer(self.questions.remove(&number)?, Ok(text))),
        }
    }
}
