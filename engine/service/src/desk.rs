//! Where the turns of one job meet a trainer that answers them.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use envmill_protocol::{Decision, EpisodeStart, Generation, PolicyVersion, Slot, Turn};
use envmill_wire as wire;
use envmill_workers::Waker;
use tokio::sync::Notify;

/// Turns of one job on their way to a trainer's stream, and its decisions on their way back. The engine's
/// side of it is a policy: [`submit`](Self::submit), [`cancel`](Self::cancel),
/// [`decisions`](Self::decisions) and [`set_version`](Self::set_version) do not block. A clone is the same desk.
#[derive(Clone, Debug, Default)]
pub struct Desk(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    table: Mutex<Table>,
    has_decisions: AtomicBool,
    /// Wakes the engine.
    waker: OnceLock<Waker>,
    /// Wakes the stream.
    news: Notify,
}

/// Names a turn on the wire: its slot and its generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct TurnName(pub(crate) u64);

impl TurnName {
    const fn of(slot: Slot, generation: Generation) -> Self {
        Self((slot.0 as u64) << 32 | generation.0 as u64)
    }

    const fn slot(self) -> Slot {
        Slot((self.0 >> 32) as u32)
    }

    const fn generation(self) -> Generation {
        Generation(self.0 as u32)
    }
}

#[derive(Debug, Default)]
struct Table {
    /// What waits, by its slot: a session has one turn at a time.
    waiting: Vec<Option<Waiting>>,
    /// What the episodes were begun with, by their slots.
    starts: Vec<Start>,
    /// Turns that no stream has been given, in the order in which they came. Some may be gone.
    fresh: VecDeque<TurnName>,
    /// How many of them are not.
    fresh_count: usize,
    /// When the oldest of them came.
    waiting_since: Option<Instant>,
    /// Turns that the stream was given and that are not wanted any more.
    cancelled: Vec<TurnName>,
    decisions: Vec<Decision>,
    /// Which stream answers. Another one takes its place.
    seat: u64,
    is_over: bool,
    version: PolicyVersion,
    /// What the stream was told of it.
    told: Option<PolicyVersion>,
}

#[derive(Debug)]
struct Waiting {
    turn: Turn,
    /// The stream was given it, and has not answered.
    is_shown: bool,
}

/// What the last episode of a slot was begun with: kept for the stream that sits down in its midst.
#[derive(Debug, Default)]
struct Start {
    start: Option<Arc<EpisodeStart>>,
    /// The stream that was told, if one was.
    told: Option<u64>,
}

impl Start {
    /// What this stream was not told yet.
    fn news(&mut self, seat: u64) -> Option<wire::EpisodeStart> {
        if self.told == Some(seat) {
            return None;
        }
        self.told = Some(seat);
        let EpisodeStart { task_id, reset_parameters } = &**self.start.as_ref()?;
        Some(wire::EpisodeStart {
            task_id: task_id.clone(),
            reset_parameters: reset_parameters.clone(),
        })
    }
}

/// What a stream finds at its desk: the first of these that there is.
#[derive(Debug)]
pub(crate) enum Found {
    /// Another stream has the seat.
    Replaced,
    /// The version that episodes are begun on, when it is another one than before.
    Version(PolicyVersion),
    /// Turns that it was given and that do not wait any more.
    Cancelled(Vec<TurnName>),
    /// A batch.
    Turns(Vec<wire::Turn>),
    /// The job is over.
    Over,
    /// Nothing yet; at this time fewer turns than are wanted will do.
    Nothing(Option<Instant>),
}

/// How batches are made up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Batching {
    pub(crate) min: usize,
    pub(crate) max: usize,
    pub(crate) wait: std::time::Duration,
}

impl Desk {
    /// A desk with nothing on it.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Says how the engine is woken when there are decisions.
    pub fn wake_with(&self, waker: Waker) {
        let _ = self.0.waker.set(waker);
    }

    /// Turns that wait for actions.
    pub fn submit(&self, turns: impl IntoIterator<Item = Turn>) {
        let mut table = self.table();
        for turn in turns {
            table.add(turn);
        }
        drop(table);
        self.0.news.notify_one();
    }

    /// Turns that no longer do. Those of other jobs are ignored.
    pub fn cancel(&self, turns: &[(Slot, Generation)]) {
        let mut table = self.table();
        for &(slot, generation) in turns {
            let name = TurnName::of(slot, generation);
            if table.remove(name).is_some_and(|it| it.is_shown) {
                table.cancelled.push(name);
            }
        }
        let has_news = !table.cancelled.is_empty();
        drop(table);
        if has_news {
            self.0.news.notify_one();
        }
    }

    /// Appends what was decided.
    pub fn decisions(&self, decisions: &mut Vec<Decision>) {
        if self.0.has_decisions.swap(false, Ordering::AcqRel) {
            decisions.append(&mut self.table().decisions);
        }
    }

    /// The job is over.
    pub(crate) fn close(&self) {
        self.table().is_over = true;
        self.0.news.notify_one();
    }

    /// A stream sits down: it gets what others have not answered. Its number.
    pub(crate) fn sit_down(&self) -> u64 {
        let mut table = self.table();
        table.seat += 1;
        table.told = None;
        table.cancelled.clear();
        table.show_again();
        let seat = table.seat;
        drop(table);
        // Whoever sat there finds out.
        self.0.news.notify_waiters();
        self.0.news.notify_one();
        seat
    }

    /// Whether a stream has sat down.
    pub(crate) fn has_seat(&self) -> bool {
        self.table().seat > 0
    }

    /// Takes what there is for a stream, of a job whose groups have so many members.
    pub(crate) fn take(&self, seat: u64, batching: &Batching, members: u64) -> Found {
        let mut table = self.table();
        if table.seat != seat {
            return Found::Replaced;
        }
        if table.told != Some(table.version) {
            table.told = Some(table.version);
            return Found::Version(table.version);
        }
        if !table.cancelled.is_empty() {
            return Found::Cancelled(std::mem::take(&mut table.cancelled));
        }
        match table.waiting_since {
            None if table.is_over => Found::Over,
            None => Found::Nothing(None),
            Some(since) => {
                let until = since + batching.wait;
                if table.fresh_count < batching.min && Instant::now() < until {
                    return Found::Nothing(Some(until));
                }
                Found::Turns(table.take_batch(batching.max, members))
            }
        }
    }

    /// Says which version episodes are begun on. To be told before the turns of those that are.
    pub fn set_version(&self, version: PolicyVersion) {
        self.table().version = version;
        self.0.news.notify_one();
    }

    /// The version that episodes are begun on.
    pub(crate) fn version(&self) -> PolicyVersion {
        self.table().version
    }

    /// Waits until there may be something new.
    pub(crate) async fn news(&self) {
        self.0.news.notified().await;
    }

    /// Takes decisions on turns that were shown: `decide` makes one for a turn that still waits.
    pub(crate) fn decide<T>(
        &self,
        seat: u64,
        answers: impl IntoIterator<Item = (TurnName, T)>,
        mut decide: impl FnMut(Slot, Generation, T) -> Decision,
    ) {
        let mut table = self.table();
        if table.seat != seat {
            return;
        }
        for (name, answer) in answers {
            if table.is_shown(name) {
                table.remove(name);
                table.decisions.push(decide(name.slot(), name.generation(), answer));
            }
        }
        let has_any = !table.decisions.is_empty();
        drop(table);
        if has_any
            && !self.0.has_decisions.swap(true, Ordering::AcqRel)
            && let Some(waker) = self.0.waker.get()
        {
            waker.wake();
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // Nothing that holds it can leave it half changed.
        self.0.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn add(&mut self, mut turn: Turn) {
        let (slot, name) = (turn.slot.0 as usize, TurnName::of(turn.slot, turn.generation));
        if slot >= self.waiting.len() {
            self.waiting.resize_with(slot + 1, || None);
            self.starts.resize_with(slot + 1, Start::default);
        }
        if let Some(start) = turn.start.take() {
            self.starts[slot] = Start { start: Some(start), told: None };
        }
        let before = self.waiting[slot].replace(Waiting { turn, is_shown: false });
        self.fresh_count += usize::from(before.is_none_or(|it| it.is_shown));
        self.line_up(name);
    }

    fn line_up(&mut self, name: TurnName) {
        self.fresh.push_back(name);
        self.waiting_since.get_or_insert_with(Instant::now);
    }

    fn get(&mut self, name: TurnName) -> Option<&mut Waiting> {
        let waiting = self.waiting.get_mut(name.slot().0 as usize)?.as_mut()?;
        (waiting.turn.generation == name.generation()).then_some(waiting)
    }

    fn is_shown(&mut self, name: TurnName) -> bool {
        self.get(name).is_some_and(|it| it.is_shown)
    }

    fn remove(&mut self, name: TurnName) -> Option<Waiting> {
        self.get(name)?;
        let removed = self.waiting[name.slot().0 as usize].take()?;
        if !removed.is_shown {
            self.fresh_count -= 1;
            if self.fresh_count == 0 {
                self.fresh.clear();
                self.waiting_since = None;
            }
        }
        Some(removed)
    }

    /// What was shown and not answered is fresh again.
    fn show_again(&mut self) {
        for slot in 0..self.waiting.len() {
            let shown = self.waiting[slot].as_mut().filter(|it| it.is_shown);
            if let Some(Waiting { turn, is_shown }) = shown {
                *is_shown = false;
                let name = TurnName::of(turn.slot, turn.generation);
                self.fresh_count += 1;
                self.line_up(name);
            }
        }
    }

    fn take_batch(&mut self, most: usize, members: u64) -> Vec<wire::Turn> {
        let mut turns = Vec::with_capacity(most.min(self.fresh_count));
        while turns.len() < most
            && let Some(name) = self.fresh.pop_front()
        {
            if let Some(waiting) = self.get(name).filter(|it| !it.is_shown) {
                waiting.is_shown = true;
                let mut turn = message(name, &waiting.turn, members);
                turn.start = self.starts[name.slot().0 as usize].news(self.seat);
                turns.push(turn);
                self.fresh_count -= 1;
            }
        }
        self.waiting_since = (self.fresh_count > 0).then(Instant::now);
        turns
    }
}

fn message(name: TurnName, turn: &Turn, members: u64) -> wire::Turn {
    let members = members.max(1);
    wire::Turn {
        turn: name.0,
        episode: turn.episode.0,
        group_id: turn.episode.0 / members,
        sample_index: u32::try_from(turn.episode.0 % members).unwrap_or(u32::MAX),
        step: turn.step,
        seed: turn.seed,
        observation: turn.observed.observation.text().clone(),
        reward: turn.observed.reward.value,
        start: None,
    }
}
