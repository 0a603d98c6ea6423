//! Where sessions and the worker meet: commands queue up here, answers wait here.

use std::{
    future::poll_fn,
    mem,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker as TaskWaker},
    time::Duration,
};

use envmill_protocol::{
    Command, Event, Failure, FailureKind, Generation, Outcome, Request, ServerId, SessionFate, Slot,
};
use tokio::{
    sync::{OwnedSemaphorePermit, oneshot},
    time::Instant,
};

use crate::pace::{Pace, Rule};

/// So many commands are not kept for the end of a turn: with cores to spare, the worker begins while the
/// front still reads.
const MANY: usize = 32;

/// The table of sessions and the batch being gathered. The lock is held for a few instructions at a
/// time; with the worker on the front's own thread nobody ever waits for it.
#[derive(Debug)]
pub(crate) struct Hub {
    state: Mutex<State>,
    max_sessions: u32,
    /// How long a counted session may be idle.
    idle_max: Option<Duration>,
}

#[derive(Debug, Default)]
struct State {
    cells: Vec<Cell>,
    free: Vec<Slot>,
    /// Slots of counted sessions that are taken, also those that only wait for their last step.
    sessions: u32,
    /// Commands for the pump's next turn: at most two a slot.
    commands: Vec<Command>,
    /// Commands handed to the worker and not answered.
    outstanding: usize,
    pump: Option<TaskWaker>,
    /// Where there is one, it tells the pump.
    teller: Option<TaskWaker>,
    pace: Pace,
    closing: bool,
}

/// One slot.
#[derive(Debug, Default)]
struct Cell {
    generation: Generation,
    life: Life,
    counted: bool,
    outstanding: bool,
    answer: Option<Outcome>,
    /// The worker has no session here any more.
    lost: bool,
    task: Option<TaskWaker>,
    /// When it was last asked.
    asked: Option<std::time::Instant>,
    /// When it was last asked or answered; known only where idle sessions end.
    used: Option<Instant>,
    /// Whether a WebSocket is attached to it: then it is not idle.
    attached: Option<Arc<AtomicBool>>,
    /// What is given back with the slot.
    permit: Option<OwnedSemaphorePermit>,
    /// Dropped with the slot, for whoever waits for that.
    left: Option<oneshot::Sender<()>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Life {
    #[default]
    Free,
    /// A session holds it.
    Held,
    /// Nobody waits for it any more, but its command is still under way.
    Abandoned,
    /// Its `Close` is under way.
    Closing,
}

/// A session's hold on its slot. Dropping it closes the session: at once, or, if a command is under
/// way, when that is answered. Until then the slot stays taken. That of a session which the worker has
/// lost is free at once.
#[derive(Debug)]
pub(crate) struct Hold {
    hub: Arc<Hub>,
    slot: Slot,
}

/// Why there is no slot.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Full {
    pub(crate) active: u32,
    pub(crate) max: u32,
}

impl Hub {
    pub(crate) fn new(max_sessions: u32, idle_max: Option<Duration>) -> Self {
        Self { state: Mutex::default(), max_sessions, idle_max }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that can panic runs under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a slot that is counted and opens it; the answer comes like any other.
    pub(crate) fn open(self: &Arc<Self>) -> Result<Hold, Full> {
        let mut state = self.state();
        if state.sessions >= self.max_sessions {
            return Err(Full { active: state.sessions, max: self.max_sessions });
        }
        state.sessions += 1;
        Ok(self.take(state, None))
    }

    /// Takes a slot that is not counted. The permit is given back with the slot, which may be after
    /// the hold is dropped.
    pub(crate) fn open_uncounted(self: &Arc<Self>, permit: OwnedSemaphorePermit) -> Hold {
        self.take(self.state(), Some(permit))
    }

    fn take(
        self: &Arc<Self>,
        mut state: MutexGuard<'_, State>,
        permit: Option<OwnedSemaphorePermit>,
    ) -> Hold {
        let slot = state.free.pop().unwrap_or_else(|| {
            state.cells.push(Cell::default());
            Slot(state.cells.len() as u32 - 1)
        });
        let cell = &mut state.cells[slot.0 as usize];
        cell.life = Life::Held;
        cell.counted = permit.is_none();
        cell.permit = permit;
        cell.used = (cell.counted && self.idle_max.is_some()).then(Instant::now);
        state.queue(slot, Request::Open { server: ServerId(0) });
        Hold { hub: Arc::clone(self), slot }
    }

    /// How many sessions there are, and how many there may be.
    pub(crate) fn full(&self) -> Full {
        Full { active: self.state().sessions, max: self.max_sessions }
    }

    /// Ends the counted sessions that have been idle for too long: to whoever holds one, it looks as
    /// if the worker had lost it.
    pub(crate) fn reap(&self) {
        let Some(idle_max) = self.idle_max else { return };
        let now = Instant::now();
        let mut tasks = Vec::new();
        let mut state = self.state();
        for cell in state.cells.iter_mut().filter(|cell| cell.is_idle(now, idle_max)) {
            let message = format!("the session was idle for longer than {idle_max:?}");
            let failure = Failure::lost(FailureKind::Expired, message);
            cell.answer = Some(Outcome::Failed(failure));
            tasks.extend(cell.task.take());
        }
        drop(state);
        tasks.into_iter().for_each(TaskWaker::wake);
    }

    /// Lets this thread's runtime go at the sessions' pace, until what this returns is dropped.
    pub(crate) fn rule(&self) -> Rule {
        self.state().pace.rule()
    }

    /// Whether every session has been told to leave.
    pub(crate) fn is_closing(&self) -> bool {
        self.state().closing
    }

    /// Tells every session to leave.
    pub(crate) fn close(&self) {
        let mut state = self.state();
        state.closing = true;
        // Nobody waits for the worker any more.
        state.cells.iter_mut().for_each(|cell| cell.left = None);
        let tasks: Vec<_> = state.cells.iter_mut().filter_map(|cell| cell.task.take()).collect();
        drop(state);
        tasks.into_iter().for_each(TaskWaker::wake);
    }

    /// Takes the commands queued so far into `batch`; if there are none, registers for the next.
    pub(crate) fn poll_batch(&self, batch: &mut Vec<Command>, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.state();
        if state.commands.is_empty() {
            state.pump = Some(cx.waker().clone());
            return Poll::Pending;
        }
        state.outstanding += state.commands.len();
        mem::swap(&mut state.commands, batch);
        Poll::Ready(())
    }

    /// Tells the pump, for ever, of what was queued: after all that was ready when the first of it was.
    pub(crate) async fn tell(&self) {
        poll_fn(|cx| {
            let mut state = self.state();
            state.teller = Some(cx.waker().clone());
            if !state.commands.is_empty() {
                state.wake_pump();
            }
            Poll::<()>::Pending
        })
        .await;
    }

    /// Whether the worker owes answers.
    pub(crate) fn owed(&self) -> bool {
        self.state().outstanding > 0
    }

    /// Puts answers where they belong; the tasks to be woken are added to `tasks`.
    pub(crate) fn deliver(&self, events: &mut Vec<Event>, tasks: &mut Vec<TaskWaker>) {
        let mut state = self.state();
        for event in events.drain(..) {
            state.deliver(event, tasks);
        }
    }
}

impl Cell {
    fn is_idle(&self, now: Instant, idle_max: Duration) -> bool {
        self.life == Life::Held
            && !self.outstanding
            && self.answer.is_none()
            && self.used.is_some_and(|used| now.duration_since(used) > idle_max)
            && !self.attached.as_ref().is_some_and(|attached| attached.load(Ordering::Relaxed))
    }

    fn touch(&mut self) {
        if let Some(used) = &mut self.used {
            *used = Instant::now();
        }
    }
}

impl State {
    fn queue(&mut self, slot: Slot, request: Request) {
        let cell = &mut self.cells[slot.0 as usize];
        cell.generation = cell.generation.next();
        cell.outstanding = true;
        cell.touch();
        // These come when a session begins and ends, whatever its pace.
        if !matches!(request, Request::Open { .. } | Request::Close) {
            let now = std::time::Instant::now();
            self.pace.came(now, cell.asked.replace(now));
        }
        self.commands.push(Command { slot, generation: cell.generation, request });
        match (&self.teller, self.commands.len()) {
            (Some(teller), 1) => teller.wake_by_ref(),
            (Some(_), count) if count != MANY => {}
            _ => self.wake_pump(),
        }
    }

    fn wake_pump(&mut self) {
        if let Some(pump) = self.pump.take() {
            pump.wake();
        }
    }

    fn deliver(&mut self, event: Event, tasks: &mut Vec<TaskWaker>) {
        let Event { slot, generation, outcome } = event;
        let Some(cell) = self.cells.get_mut(slot.0 as usize) else { return };
        if cell.generation != generation {
            return;
        }
        if mem::take(&mut cell.outstanding) {
            cell.touch();
            self.outstanding = self.outstanding.saturating_sub(1);
        }
        let lost = matches!(
            outcome,
            Outcome::Closed | Outcome::Failed(Failure { session: SessionFate::Lost, .. })
        );
        match cell.life {
            Life::Held => {
                cell.lost = lost;
                cell.answer = Some(outcome);
                tasks.extend(cell.task.take());
            }
            Life::Abandoned if !lost => {
                cell.life = Life::Closing;
                self.queue(slot, Request::Close);
            }
            Life::Abandoned | Life::Closing => self.release(slot),
            Life::Free => {}
        }
    }

    fn release(&mut self, slot: Slot) {
        let cell = &mut self.cells[slot.0 as usize];
        // Of the rest, the permit goes back and whoever waits for the slot's end is told.
        let Cell { generation, counted, .. } = mem::take(cell);
        cell.generation = generation;
        if counted {
            self.sessions -= 1;
        }
        self.free.push(slot);
    }
}

impl Hold {
    /// Asks the worker. There must be no other request under way on this hold.
    pub(crate) fn ask(&self, request: Request) {
        self.hub.state().queue(self.slot, request);
    }

    /// The answer, or the news that the session was lost; registers the task if there is neither.
    /// `None` says that the front is closing.
    pub(crate) fn poll_answer(&self, cx: &mut Context<'_>) -> Poll<Option<Outcome>> {
        let mut state = self.hub.state();
        if state.closing {
            return Poll::Ready(None);
        }
        let cell = &mut state.cells[self.slot.0 as usize];
        if let Some(answer) = cell.answer.take() {
            return Poll::Ready(Some(answer));
        }
        match &mut cell.task {
            Some(task) => task.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        Poll::Pending
    }
}

impl Hold {
    /// The answer, as [`poll_answer`](Self::poll_answer) gives it.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost: an answer stays until it is taken.
    pub(crate) async fn answer(&self) -> Option<Outcome> {
        poll_fn(|cx| self.poll_answer(cx)).await
    }

    /// From now on the session is not idle while `attached` is set.
    pub(crate) fn not_idle_while(&self, attached: Arc<AtomicBool>) {
        self.hub.state().cells[self.slot.0 as usize].attached = Some(attached);
    }

    /// Closes the session; ready when its slot is free again, or when the front closes.
    pub(crate) fn leave(self) -> impl Future<Output = ()> + Send + 'static {
        let (left, gone) = oneshot::channel();
        let mut state = self.hub.state();
        if !state.closing {
            state.cells[self.slot.0 as usize].left = Some(left);
        }
        drop(state);
        drop(self);
        async move {
            // It is never sent, only dropped.
            let _ = gone.await;
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut state = self.hub.state();
        let cell = &mut state.cells[self.slot.0 as usize];
        cell.task = None;
        if cell.outstanding {
            cell.life = Life::Abandoned;
            return;
        }
        if cell.lost {
            state.release(self.slot);
            return;
        }
        cell.life = Life::Closing;
        cell.answer = None;
        state.queue(self.slot, Request::Close);
    }
}

#[cfg(test)]
mod tests {
    use std::{pin::pin, sync::atomic::AtomicUsize, task::Wake};

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    impl Woken {
        fn times(&self) -> usize {
            self.0.load(Ordering::Relaxed)
        }
    }

    #[test]
    fn what_is_queued_in_a_turn_is_told_once_at_its_end() {
        let hub = Arc::new(Hub::new(64, None));
        let (pump, turn) = (Arc::new(Woken::default()), Arc::new(Woken::default()));
        let (pump_waker, turn_waker) =
            (TaskWaker::from(Arc::clone(&pump)), TaskWaker::from(Arc::clone(&turn)));
        let mut told = Context::from_waker(&pump_waker);
        let mut end_of_turn = Context::from_waker(&turn_waker);
        let mut teller = pin!(hub.tell());
        let mut batch = Vec::new();
        assert!(teller.as_mut().poll(&mut end_of_turn).is_pending());
        assert!(hub.poll_batch(&mut batch, &mut told).is_pending());

        let mut holds: Vec<_> = (0..3).map(|_| hub.open().unwrap()).collect();
        assert_eq!((turn.times(), pump.times()), (1, 0));
        assert!(teller.as_mut().poll(&mut end_of_turn).is_pending());
        assert_eq!((turn.times(), pump.times()), (1, 1));
        assert!(hub.poll_batch(&mut batch, &mut told).is_ready());
        assert_eq!(batch.len(), 3);

        // Many are not kept until then.
        assert!(hub.poll_batch(&mut Vec::new(), &mut told).is_pending());
        holds.extend((0..MANY).map(|_| hub.open().unwrap()));
        assert_eq!((turn.times(), pump.times()), (2, 2));
    }

    #[test]
    fn what_the_worker_lost_holds_no_slot() {
        let hub = Arc::new(Hub::new(1, None));
        let hold = hub.open().unwrap();
        let mut batch = Vec::new();
        let mut context = Context::from_waker(TaskWaker::noop());
        assert!(hub.poll_batch(&mut batch, &mut context).is_ready());
        let Command { slot, generation, .. } = batch[0];
        let failure = Failure::lost(FailureKind::Factory, "no environment");
        let event = Event { slot, generation, outcome: Outcome::Failed(failure) };
        hub.deliver(&mut vec![event], &mut Vec::new());
        assert!(matches!(hold.poll_answer(&mut context), Poll::Ready(Some(Outcome::Failed(_)))));
        assert!(hub.open().is_err(), "until its end was looked at");
        drop(hold);
        assert!(hub.open().is_ok());
    }
}
