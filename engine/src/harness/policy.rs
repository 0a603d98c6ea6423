//! The policy of an environment that is a harness.

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

use envmill_capture::{Capture, Captured};
use envmill_inference::{Error, PauseMode};
use envmill_protocol::{Decision, Generation, PolicyVersion, Slot, Turn};
use envmill_workers::Waker;
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot},
};

use super::{
    HarnessError, HarnessOptions, Jobs, Players,
    door::{self, Door},
    outcome::Outcome,
    play::{self, Offer},
};
use crate::{
    children::Sentry,
    model::{Captures, Engines, ModelPolicy, captures},
    policy::Policy,
};

/// A harness at work: a policy whose turns are whole episodes, each played by a program. Dropping it kills the
/// programs.
pub(crate) struct Harness {
    shared: Arc<Shared>,
    /// To the thread that keeps programs: they die with it.
    offers: Option<mpsc::UnboundedSender<Wanted>>,
    thread: Option<JoinHandle<()>>,
    /// End last.
    engines: Engines,
}

/// What the policy and its episodes have in common.
pub(super) struct Shared {
    pub(super) players: Players,
    pub(super) capture: Capture,
    pub(super) base_url: String,
    pub(super) door: Arc<Door>,
    /// Where episodes have their directories.
    pub(super) places: PathBuf,
    /// Where what programs print goes.
    pub(super) logs: PathBuf,
    pub(super) sentry: Arc<Sentry>,
    deadline: Duration,
    jobs: Jobs,
    table: Mutex<Table>,
    waker: Waker,
}

#[derive(Default)]
struct Table {
    /// Turns that are played. Dropping what stands with one ends it.
    under_way: HashMap<Slot, (Generation, oneshot::Sender<()>)>,
    ready: Vec<Decision>,
}

/// A turn that is to be played until nobody wants it any more.
struct Wanted {
    turn: Turn,
    dropped: oneshot::Receiver<()>,
}

impl Harness {
    /// Connects to the model, and opens the endpoint. Programs have their directories and logs in `logs`; `waker`
    /// is woken when there are decisions.
    ///
    /// # Errors
    ///
    /// See [`HarnessError`].
    pub(crate) fn start(
        name: &str,
        options: &HarnessOptions,
        logs: &Path,
        waker: Waker,
    ) -> Result<Self, HarnessError> {
        options.check()?;
        let Captures { capture, engines } =
            captures(&options.spec, options.model.clone(), options.capture.clone())?;
        let places = std::path::absolute(logs)?.join("episodes");
        // Those of an earlier life, whose programs have ended with it, or are about to.
        if let Err(error) = fs::remove_dir_all(&places)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(harness = name, %error, "directories of earlier episodes are left");
        }
        fs::create_dir_all(&places)?;
        let door = Arc::default();
        let base_url = serve(options, &capture, &door, &engines)?;
        tracing::info!(harness = name, base_url, "programs find the model");
        let shared = Arc::new(Shared {
            players: options.players.clone(),
            capture,
            base_url,
            door,
            places,
            logs: logs.to_owned(),
            sentry: Arc::new(Sentry::post()),
            deadline: options.deadline,
            jobs: Jobs::default(),
            table: Mutex::default(),
            waker,
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (offers, mut wanted) = mpsc::unbounded_channel::<Wanted>();
        let thread = {
            let shared = Arc::clone(&shared);
            thread::Builder::new().name(format!("{name}-programs")).spawn(move || {
                runtime.block_on(async move {
                    while let Some(Wanted { turn, dropped }) = wanted.recv().await {
                        tokio::spawn(keep(Arc::clone(&shared), turn, dropped));
                    }
                });
                // What is still played is dropped here, on the thread that has started it.
            })?
        };
        Ok(Self { shared, offers: Some(offers), thread: Some(thread), engines })
    }

    /// The jobs whose episodes it plays.
    pub(crate) fn jobs(&self) -> Jobs {
        self.shared.jobs.clone()
    }
}

/// Opens the endpoint; what programs are told of where it is.
fn serve(
    options: &HarnessOptions,
    capture: &Capture,
    door: &Arc<Door>,
    engines: &Engines,
) -> Result<String, HarnessError> {
    let address = options.listen;
    let wrong = |source| HarnessError::Listen { address, source };
    let Some(runtime) = engines.handle() else {
        return Err(HarnessError::Io(io::Error::other("there are no threads")));
    };
    let listener = runtime.block_on(TcpListener::bind(address)).map_err(wrong)?;
    let bound = listener.local_addr().map_err(wrong)?;
    let base_url = options.base_url.clone().unwrap_or_else(|| format!("http://{bound}/v1"));
    let capture = capture.clone();
    match &options.players {
        Players::Started(_) => {
            runtime.spawn(async move { capture.serve(listener, std::future::pending()).await });
        }
        Players::External { token } => {
            let (door, base_url, token) = (Arc::clone(door), base_url.clone(), *token);
            let router = door::router(door::Desk { door, capture, base_url, token });
            runtime.spawn(async move { axum::serve(listener, router).await });
        }
    }
    Ok(base_url)
}

/// Plays a turn until it has its decision, or nobody wants it.
async fn keep(shared: Arc<Shared>, turn: Turn, dropped: oneshot::Receiver<()>) {
    let job = shared.jobs.get(turn.job);
    let limit = job.limit.unwrap_or(shared.deadline).min(shared.deadline);
    let played = play::play(&shared, Offer { turn: &turn, job: &job.name, limit });
    let (outcome, captured) = tokio::select! {
        played = played => played,
        // What it has begun ends with it.
        _ = dropped => return,
    };
    shared.decide(&turn, &outcome, captured);
}

impl Shared {
    fn decide(&self, turn: &Turn, outcome: &Outcome, captured: Captured) {
        let spoken = captured.spoken();
        let decision = turn.decided(Ok(outcome.action()));
        let mut table = self.table();
        // One that was cancelled has been taken out; the session may be at another turn by now.
        if table.under_way.get(&turn.slot).is_none_or(|it| it.0 != turn.generation) {
            return;
        }
        table.under_way.remove(&turn.slot);
        let generations = captured.generations;
        table.ready.push(Decision { generations, spoken, ..decision });
        drop(table);
        self.waker.wake();
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // Never held over a call of somebody else's code, nor over a wait.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Policy for Harness {
    fn submit(&mut self, turns: &mut Vec<Turn>) {
        let Some(offers) = &self.offers else { return turns.clear() };
        let mut table = self.shared.table();
        for turn in turns.drain(..) {
            let (wanted, dropped) = oneshot::channel();
            table.under_way.insert(turn.slot, (turn.generation, wanted));
            // The thread ends after this only.
            let _ = offers.send(Wanted { turn, dropped });
        }
    }

    fn cancel(&mut self, turns: &[(Slot, Generation)]) {
        let mut table = self.shared.table();
        for (slot, generation) in turns {
            if table.under_way.get(slot).is_some_and(|it| it.0 == *generation) {
                table.under_way.remove(slot);
            }
        }
    }

    fn decisions(&mut self, decisions: &mut Vec<Decision>) {
        decisions.append(&mut self.shared.table().ready);
    }

    fn numbers(&self) -> Vec<(&'static str, f64)> {
        vec![("episodes_open", self.shared.capture.episodes() as f64)]
    }
}

impl ModelPolicy for Harness {
    fn update(
        &self,
        weights: Option<PathBuf>,
        version: PolicyVersion,
        pause: PauseMode,
        failed: Box<dyn FnOnce(Error) + Send>,
    ) {
        self.engines.update(weights, version, pause, failed);
    }
}

impl Drop for Harness {
    fn drop(&mut self) {
        self.offers = None;
        if let Some(thread) = self.thread.take() {
            // A panic of that thread was shown when it happened, and its programs have ended with it.
            let _ = thread.join();
        }
    }
}
