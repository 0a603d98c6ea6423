//! An inference engine that does what a test says. Its tokens count up from the prompt's length, so that a
//! sample that was doubled, left out or continued elsewhere from another place shows.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use envmill_inference::{
    Answer, Capabilities, Chunk, Control, Deliver, Error, ErrorKind, Feed, Finish, Finished,
    Generation, Inference, Load, PauseMode, Request, RequestId, Sampling, TOP_LOGPROBS_MAX,
};
use envmill_protocol::PolicyVersion;
use tokio::{sync::watch, time::sleep};

/// What goes wrong with the next generations, one after another; then all goes well.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// The engine is lost after so many tokens.
    LostAfter(u32),
    /// There is no room.
    Busy,
    /// The request is wrong.
    Refused,
    /// A token that is none, after so many.
    Nonsense(u32),
    /// Nothing comes any more after so many.
    SilentAfter(u32),
    /// The engine ends it after so many, unasked.
    AbortedAfter(u32),
}

pub(crate) struct Puppet {
    pub(crate) faults: Mutex<Vec<Fault>>,
    pub(crate) requests: Mutex<Vec<Request>>,
    pub(crate) version: AtomicU64,
    pub(crate) told: Mutex<Vec<Control>>,
    /// Updates of weights fail.
    pub(crate) fails_updates: AtomicBool,
    pub(crate) load: Mutex<Option<Load>>,
    pub(crate) dropped: AtomicU64,
    paused: watch::Sender<bool>,
    aborted: Mutex<HashMap<RequestId, ()>>,
    aborts: watch::Sender<u64>,
    token: Duration,
}

impl Puppet {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            faults: Mutex::default(),
            requests: Mutex::default(),
            version: AtomicU64::new(0),
            told: Mutex::default(),
            fails_updates: AtomicBool::new(false),
            load: Mutex::default(),
            dropped: AtomicU64::new(0),
            paused: watch::Sender::new(false),
            aborted: Mutex::default(),
            aborts: watch::Sender::new(0),
            token: Duration::from_millis(10),
        })
    }

    pub(crate) fn will(&self, faults: &[Fault]) {
        *self.faults.lock().unwrap() = faults.iter().rev().copied().collect();
    }

    pub(crate) fn asked(&self) -> usize {
        self.requests.lock().unwrap().len()
    }

    async fn play(self: Arc<Self>, request: Request, feed: Feed) {
        let fault = self.faults.lock().unwrap().pop();
        let prompt = request.prompt.len() as u32;
        let whole = request.deliver == Deliver::Whole;
        let mut held = Chunk::default();
        let fail = |kind| feed.fail(Error::new(kind, "as the test says"));
        match fault {
            Some(Fault::Busy) => return fail(ErrorKind::Busy),
            Some(Fault::Refused) => return fail(ErrorKind::Refused),
            _ => {}
        }
        for count in 0..request.max_tokens {
            let mut paused = self.paused.subscribe();
            if paused.wait_for(|it| !it).await.is_err() {
                return;
            }
            match fault {
                Some(Fault::LostAfter(most)) if count >= most => return fail(ErrorKind::Lost),
                Some(Fault::SilentAfter(most)) if count >= most => std::future::pending().await,
                Some(Fault::AbortedAfter(most)) if count >= most => {
                    return Self::end(&feed, held, Finish::Aborted);
                }
                _ => {}
            }
            if self.aborted.lock().unwrap().contains_key(&request.id) {
                return Self::end(&feed, held, Finish::Aborted);
            }
            sleep(self.token).await;
            let odd = matches!(fault, Some(Fault::Nonsense(most)) if count >= most);
            held.token_ids.push(if odd { u32::MAX } else { prompt + count });
            held.logprobs.push(-0.5);
            held.version = PolicyVersion(self.version.load(Ordering::Relaxed));
            if !whole {
                feed.chunk(std::mem::take(&mut held));
            }
        }
        Self::end(&feed, held, Finish::Length);
    }

    fn end(feed: &Feed, held: Chunk, finish: Finish) {
        feed.chunk(Chunk { finished: Some(Finished::new(finish)), ..held });
    }
}

/// A handle, as a pool wants it.
pub(crate) struct Handle(pub(crate) Arc<Puppet>);

impl Inference for Handle {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            token_ids: true,
            streaming: true,
            version_spans: false,
            stop_strings: false,
            control: true,
            top_logprobs: TOP_LOGPROBS_MAX,
            constraints: true,
        }
    }

    fn generate(&self, request: Request) -> Generation {
        let (feed, generation) = Generation::new();
        self.0.requests.lock().unwrap().push(request.clone());
        let puppet = Arc::clone(&self.0);
        let told = Arc::clone(&self.0);
        tokio::spawn(async move {
            tokio::select! {
                () = feed.dropped() => {}
                () = puppet.play(request, feed.clone()) => {}
            }
        });
        generation.on_drop(move || {
            told.dropped.fetch_add(1, Ordering::Relaxed);
        })
    }

    fn abort(&self, requests: &[RequestId]) {
        let mut aborted = self.0.aborted.lock().unwrap();
        aborted.extend(requests.iter().map(|it| (*it, ())));
        self.0.aborts.send_modify(|it| *it += 1);
    }

    fn control(&self, control: Control) -> Answer<'_, ()> {
        Box::pin(async move {
            self.0.told.lock().unwrap().push(control.clone());
            let fails = self.0.fails_updates.load(Ordering::Relaxed);
            match control {
                Control::LoadWeights { .. } if fails => {
                    return Err(Error::new(ErrorKind::Lost, "as the test says"));
                }
                Control::Pause(mode) => {
                    self.0.paused.send_replace(true);
                    if mode == PauseMode::Abort {
                        let all: Vec<_> =
                            self.0.requests.lock().unwrap().iter().map(|it| it.id).collect();
                        self.abort(&all);
                        // Those that it holds up are to see it.
                        self.0.paused.send_replace(false);
                        sleep(Duration::from_millis(30)).await;
                        self.0.paused.send_replace(true);
                    }
                }
                Control::Resume => {
                    self.0.paused.send_replace(false);
                }
                Control::SetVersion(version) => self.0.version.store(version.0, Ordering::Relaxed),
                Control::LoadWeights { .. } => {}
            }
            Ok(())
        })
    }

    fn load(&self) -> Answer<'_, Option<Load>> {
        Box::pin(async move { Ok(*self.0.load.lock().unwrap()) })
    }
}

/// A request for so many tokens after a prompt of ten.
pub(crate) fn request(id: u64, max_tokens: u32, deliver: Deliver) -> Request {
    Request {
        id: RequestId(id),
        prompt: (0..10).collect(),
        messages: None,
        sampling: Arc::new(Sampling::default()),
        max_tokens,
        seed: None,
        affinity: None,
        deliver,
    }
}
