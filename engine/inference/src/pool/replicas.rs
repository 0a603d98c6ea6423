//! The pool.

use std::{
    collections::{HashMap, VecDeque},
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use envmill_protocol::PolicyVersion;
use tokio::{
    runtime::Handle,
    sync::oneshot,
    time::{Instant, timeout_at},
};

use crate::{
    Answer, Capabilities, Control, Error, ErrorKind, Generation, Inference, Load, PauseMode,
    Request, RequestId, TOP_LOGPROBS_MAX,
};

use super::{
    PoolOptions, ReplicaStatus, control,
    play::Play,
    seats::{SeatId, Seats},
    watch,
};

/// Replicas of one model, used as one inference engine.
///
/// A request goes to the replica with the fewest outstanding tokens, or where requests of its key went
/// before; it waits, first come, first served, while no replica takes it. When a replica is lost or sends
/// nonsense, its requests go on elsewhere from the tokens that have come; a generation that an engine
/// aborted unasked (a pause for new weights) goes on from its tokens, too. An engine whose update of
/// weights failed gets nothing before it was restarted; one that comes back gets the weights of the others
/// first.
#[derive(Clone)]
pub struct Pool {
    pub(super) shared: Arc<Shared>,
    runtime: Handle,
    /// Ends the task that asks replicas for their load.
    _watch: Arc<oneshot::Sender<()>>,
}

pub(super) struct Shared {
    pub(super) options: PoolOptions,
    state: Mutex<State>,
    /// Names for requests to replicas: each try has its own.
    ids: AtomicU64,
    pub(super) counts: Counts,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) seats: Seats,
    pub(super) engines: HashMap<SeatId, Arc<dyn Inference>>,
    waiting: VecDeque<Waiting>,
    /// Requests under way: who has them under which name.
    pub(super) running: HashMap<RequestId, Running>,
    /// So many updates are under way: nothing is given out until they are over.
    pub(super) held: u32,
    /// Gone when the last of them is over.
    updating: Option<oneshot::Receiver<()>>,
    /// The last weights that all were given.
    pub(super) weights: Option<PathBuf>,
    pub(super) version: Option<PolicyVersion>,
    /// Why all replicas are of no use, once that was told.
    dark: Option<String>,
}

#[derive(Default)]
pub(super) struct Running {
    /// The replica that has it, and under which name.
    pub(super) at: Option<(SeatId, RequestId)>,
    /// Its end was asked for.
    pub(super) aborted: bool,
}

struct Waiting {
    tokens: u64,
    key: Option<u64>,
    place: oneshot::Sender<Place>,
}

/// Nothing is given out while this lives.
struct Held(Arc<Shared>);

impl Held {
    fn new(shared: &Arc<Shared>) -> Self {
        shared.state().held += 1;
        Self(Arc::clone(shared))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.state().held -= 1;
        self.0.serve();
    }
}

/// A request's place at a replica, which is given back on drop.
pub(super) struct Place {
    pub(super) seat: SeatId,
    pub(super) engine: Arc<dyn Inference>,
    tokens: u64,
    shared: Arc<Shared>,
}

#[derive(Default)]
pub(super) struct Counts {
    pub(super) requests: AtomicU64,
    pub(super) prompt_tokens: AtomicU64,
    pub(super) sampled_tokens: AtomicU64,
    pub(super) cached_tokens: AtomicU64,
    pub(super) retried: AtomicU64,
    pub(super) continued: AtomicU64,
}

/// What a pool has done and what it is at.
#[derive(Clone, Debug, PartialEq)]
pub struct PoolStatus {
    /// Its replicas.
    pub replicas: Vec<ReplicaStatus>,
    /// For how long all of them have been of no use; `None` while one is, or where there is none.
    pub dark_for: Option<Duration>,
    /// Requests that wait for a replica.
    pub waiting: u64,
    /// Requests so far.
    pub requests: u64,
    /// Tokens of their prompts.
    pub prompt_tokens: u64,
    /// Of these, found in prefix caches, as far as engines say so.
    pub cached_tokens: u64,
    /// Tokens sampled.
    pub sampled_tokens: u64,
    /// Tries that failed and were followed by another.
    pub retried: u64,
    /// Generations that were continued from the tokens that had come.
    pub continued: u64,
}

impl Pool {
    /// A pool without replicas, whose work is done on `runtime`.
    #[must_use]
    pub fn new(options: PoolOptions, runtime: Handle) -> Self {
        let shared = Arc::new(Shared {
            options,
            state: Mutex::default(),
            ids: AtomicU64::new(0),
            counts: Counts::default(),
        });
        let (stop, stopped) = oneshot::channel();
        runtime.spawn(watch::watch(Arc::downgrade(&shared), stopped));
        Self { shared, runtime, _watch: Arc::new(stop) }
    }

    /// Another replica. If the pool's replicas were given weights, this one gets them first.
    pub fn add(&self, name: impl Into<String>, engine: Arc<dyn Inference>) {
        let mut state = self.shared.state();
        let stale = state.weights.is_some() || state.version.is_some();
        let id = state.seats.add(name.into(), stale);
        state.engines.insert(id, engine);
        drop(state);
        self.shared.serve();
    }

    /// Lets a replica go; what it has goes on. False: there is none of that name.
    pub fn remove(&self, name: &str) -> bool {
        let mut state = self.shared.state();
        let left = state.seats.leave(name);
        state.forget();
        left
    }

    /// Gives all replicas other weights, or tells them that they have others: pauses them, has them load the
    /// folder, sets the version, and lets them go on. From this call on, and not only from when its future
    /// is first looked at, no request is handed to a replica before that is over.
    ///
    /// `pause` says what becomes of generations under way. Those that are aborted go on from their tokens
    /// on the new weights. Where a replica does not say itself which weights sampled a token
    /// ([`Capabilities::version_spans`]), generations are aborted, so that what comes in one piece is of one
    /// version. Updates are done one after another, in the order of their calls.
    ///
    /// # Errors
    ///
    /// No replica has the weights now. Those that failed get nothing before they were restarted.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: replicas may stay paused.
    pub fn update(
        &self,
        weights: Option<PathBuf>,
        version: PolicyVersion,
        pause: PauseMode,
    ) -> impl Future<Output = Result<(), Error>> + Send + use<> {
        let held = Held::new(&self.shared);
        let shared = Arc::clone(&self.shared);
        let (over, is_over) = oneshot::channel();
        let before = shared.state().updating.replace(is_over);
        async move {
            let (_held, _over) = (held, over);
            if let Some(before) = before {
                // It sends nothing: its end is what is waited for.
                let _ = before.await;
            }
            let Some(folder) = weights else {
                return control::all(&shared, Control::SetVersion(version)).await;
            };
            let told = shared.state().engines.values().all(|it| it.capabilities().version_spans);
            let pause = if told || pause == PauseMode::Wait { pause } else { PauseMode::Abort };
            control::all(&shared, Control::Pause(pause)).await?;
            let loaded = control::all(&shared, Control::LoadWeights { folder }).await;
            let set = match loaded {
                Ok(()) => control::all(&shared, Control::SetVersion(version)).await,
                failed => failed,
            };
            // Whatever came of it, nobody is left paused.
            let resumed = control::all(&shared, Control::Resume).await;
            set.and(resumed)
        }
    }

    /// What it has done and what it is at.
    #[must_use]
    pub fn status(&self) -> PoolStatus {
        let read = |it: &AtomicU64| it.load(Ordering::Relaxed);
        let counts = &self.shared.counts;
        let mut state = self.shared.state();
        state.waiting.retain(|it| !it.place.is_closed());
        PoolStatus {
            replicas: state.seats.status(Instant::now(), &self.shared.options),
            dark_for: state.seats.dark_since().map(|it| it.elapsed()),
            waiting: state.waiting.len() as u64,
            requests: read(&counts.requests),
            prompt_tokens: read(&counts.prompt_tokens),
            cached_tokens: read(&counts.cached_tokens),
            sampled_tokens: read(&counts.sampled_tokens),
            retried: read(&counts.retried),
            continued: read(&counts.continued),
        }
    }
}

impl Inference for Pool {
    /// What all replicas can do.
    fn capabilities(&self) -> Capabilities {
        let state = self.shared.state();
        let all = Capabilities {
            token_ids: true,
            streaming: true,
            version_spans: true,
            stop_strings: true,
            control: true,
            top_logprobs: TOP_LOGPROBS_MAX,
            constraints: true,
        };
        state.engines.values().map(|it| it.capabilities()).fold(all, |all, it| Capabilities {
            token_ids: all.token_ids && it.token_ids,
            streaming: all.streaming && it.streaming,
            version_spans: all.version_spans && it.version_spans,
            stop_strings: all.stop_strings && it.stop_strings,
            control: all.control && it.control,
            top_logprobs: all.top_logprobs.min(it.top_logprobs),
            constraints: all.constraints && it.constraints,
        })
    }

    fn generate(&self, request: Request) -> Generation {
        let (feed, generation) = Generation::new();
        let counts = &self.shared.counts;
        counts.requests.fetch_add(1, Ordering::Relaxed);
        counts.prompt_tokens.fetch_add(request.prompt.len() as u64, Ordering::Relaxed);
        self.runtime.spawn(Play::new(Arc::clone(&self.shared), request, feed).run());
        generation
    }

    fn abort(&self, requests: &[RequestId]) {
        for id in requests {
            let mut state = self.shared.state();
            let Some(running) = state.running.get_mut(id) else { continue };
            running.aborted = true;
            let Some((seat, inner)) = running.at else { continue };
            let engine = state.engines.get(&seat).cloned();
            drop(state);
            if let Some(engine) = engine {
                engine.abort(&[inner]);
            }
        }
    }

    fn control(&self, control: Control) -> Answer<'_, ()> {
        Box::pin(control::all(&self.shared, control))
    }

    fn load(&self) -> Answer<'_, Option<Load>> {
        Box::pin(async move {
            let mut sum = Load::default();
            let mut known = 0.0;
            for replica in self.status().replicas {
                let Some(load) = replica.load else { continue };
                known += 1.0;
                sum.running += load.running;
                sum.waiting += load.waiting;
                sum.kv_cache += load.kv_cache;
                sum.prefix_queries += load.prefix_queries;
                sum.prefix_hits += load.prefix_hits;
            }
            sum.kv_cache /= f64::max(known, 1.0);
            Ok((known > 0.0).then_some(sum))
        })
    }
}

impl Shared {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        // Never held over a call of somebody else's code.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn new_id(&self) -> RequestId {
        RequestId(self.ids.fetch_add(1, Ordering::Relaxed))
    }

    /// A place for a request of so many tokens, once there is one.
    pub(super) async fn place(
        self: &Arc<Self>,
        tokens: u64,
        key: Option<u64>,
    ) -> Result<Place, Error> {
        let (place, mut waiting) = oneshot::channel();
        self.state().waiting.push_back(Waiting { tokens, key, place });
        self.serve();
        let asked = Instant::now();
        loop {
            match timeout_at(self.given_up_at(asked), &mut waiting).await {
                Ok(Ok(place)) => return Ok(place),
                // An update of weights takes what it takes, and there may be hope again.
                Err(_) if self.state().held > 0 || self.given_up_at(asked) > Instant::now() => {}
                _ => return Err(self.nowhere(asked)),
            }
        }
    }

    /// Until when a request waits for a place that it asked for then.
    fn given_up_at(&self, asked: Instant) -> Instant {
        let PoolOptions { patience, ejected_max, .. } = self.options;
        let state = self.state();
        if state.held > 0 {
            return Instant::now() + patience;
        }
        match state.seats.dark_since() {
            Some(since) => (since.min(asked) + patience).max(asked + ejected_max.min(patience)),
            None => asked + patience,
        }
    }

    /// What is told to a request that has waited in vain.
    fn nowhere(&self, asked: Instant) -> Error {
        let waited = asked.elapsed().as_secs();
        let mut message = format!("no inference engine took the request for {waited} s");
        let state = self.state();
        if let (Some(since), Some(why)) = (state.seats.dark_since(), &state.dark) {
            message = format!(
                "no inference engine has answered for {} s; last {why}",
                since.elapsed().as_secs()
            );
        }
        Error::new(ErrorKind::Busy, message)
    }

    /// Gives places to those that wait, in their order.
    pub(super) fn serve(self: &Arc<Self>) {
        loop {
            let mut state = self.state();
            let State { seats, engines, waiting, held, .. } = &mut *state;
            if *held > 0 {
                return;
            }
            let Some(first) = waiting.front() else { return };
            if first.place.is_closed() {
                waiting.pop_front();
                continue;
            }
            let (tokens, key) = (first.tokens, first.key);
            let Some(seat) = seats.choose(Instant::now(), tokens, key, &self.options) else {
                return;
            };
            let engine = engines.get(&seat).cloned();
            let first = waiting.pop_front();
            drop(state);
            let (Some(first), Some(engine)) = (first, engine) else { continue };
            let place = Place { seat, engine, tokens, shared: Arc::clone(self) };
            // One that has just given up drops its place, which serves the next.
            let _ = first.place.send(place);
        }
    }

    pub(super) fn failed(&self, seat: SeatId, error: &Error) {
        let mut state = self.state();
        let weights = state.weights.is_some() || state.version.is_some();
        let now = Instant::now();
        let ejected = state.seats.failed(seat, error.kind, weights, now, &self.options);
        let Some(name) = ejected.map(str::to_owned) else { return };
        let is_dark = state.seats.dark_since().is_some();
        let is_new = is_dark && state.dark.is_none();
        if is_dark {
            state.dark = Some(format!("{name}: {error}"));
        }
        drop(state);
        tracing::warn!(replica = name, "an inference engine gets nothing for a while: {error}");
        if is_new {
            let patience = self.options.patience.as_secs();
            tracing::error!(
                "no inference engine answers ({name}: {error}); turns wait for one for up to {patience} s"
            );
        }
    }

    /// A replica has answered a request.
    pub(super) fn succeeded(&self, seat: SeatId) {
        let mut state = self.state();
        state.seats.succeeded(seat);
        let was_dark = state.dark.take().is_some();
        drop(state);
        if was_dark {
            tracing::error!("an inference engine answers again");
        }
    }
}

impl State {
    /// Replicas that are gone have no engine.
    fn forget(&mut self) {
        if self.engines.len() > self.seats.len() {
            let Self { seats, engines, .. } = self;
            engines.retain(|id, _| seats.has(*id));
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.seats.leave_with(self.seat, self.tokens);
        state.forget();
        drop(state);
        self.shared.serve();
    }
}
