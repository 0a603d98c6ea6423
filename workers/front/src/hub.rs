//! Where sessions and the worker meet: commands queue up here, answers wait here.

use std::{
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker as TaskWaker},
};

use envmill_protocol::{
    Command, Event, Failure, Generation, Outcome, Request, ServerId, SessionFate, Slot,
};

/// The table of sessions and the batch being gathered. The lock is held for a few instructions at a
/// time; with the worker on the front's own thread nobody ever waits for it.
#[derive(Debug)]
pub(crate) struct Hub {
    state: Mutex<State>,
    max_sessions: u32,
}

#[derive(Debug, Default)]
struct State {
    cells: Vec<Cell>,
    free: Vec<Slot>,
    /// Slots of WebSocket sessions that are taken, also those that only wait for their last step.
    sessions: u32,
    /// Commands for the pump's next turn: at most two a slot.
    commands: Vec<Command>,
    /// Commands handed to the worker and not answered.
    outstanding: usize,
    pump: Option<TaskWaker>,
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
    task: Option<TaskWaker>,
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
/// way, when that is answered. Until then the slot stays taken.
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
    pub(crate) fn new(max_sessions: u32) -> Self {
        Self { state: Mutex::default(), max_sessions }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that can panic runs under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a slot for a WebSocket session and opens it; the answer comes like any other.
    pub(crate) fn open(self: &Arc<Self>) -> Result<Hold, Full> {
        let mut state = self.state();
        if state.sessions >= self.max_sessions {
            return Err(Full { active: state.sessions, max: self.max_sessions });
        }
        state.sessions += 1;
        Ok(self.take(state, true))
    }

    /// Takes a slot that is not counted.
    pub(crate) fn open_uncounted(self: &Arc<Self>) -> Hold {
        self.take(self.state(), false)
    }

    fn take(self: &Arc<Self>, mut state: MutexGuard<'_, State>, counted: bool) -> Hold {
        let slot = state.free.pop().unwrap_or_else(|| {
            state.cells.push(Cell::default());
            Slot(state.cells.len() as u32 - 1)
        });
        let cell = &mut state.cells[slot.0 as usize];
        cell.life = Life::Held;
        cell.counted = counted;
        state.queue(slot, Request::Open { server: ServerId(0) });
        Hold { hub: Arc::clone(self), slot }
    }

    /// How many sessions there are, and how many there may be.
    pub(crate) fn full(&self) -> Full {
        Full { active: self.state().sessions, max: self.max_sessions }
    }

    /// Tells every session to leave.
    pub(crate) fn close(&self) {
        let mut state = self.state();
        state.closing = true;
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

impl State {
    fn queue(&mut self, slot: Slot, request: Request) {
        let cell = &mut self.cells[slot.0 as usize];
        cell.generation = cell.generation.next();
        cell.outstanding = true;
        self.commands.push(Command { slot, generation: cell.generation, request });
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
            self.outstanding = self.outstanding.saturating_sub(1);
        }
        let lost = matches!(
            outcome,
            Outcome::Closed | Outcome::Failed(Failure { session: SessionFate::Lost, .. })
        );
        match cell.life {
            Life::Held => {
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
        cell.life = Life::Free;
        cell.answer = None;
        cell.task = None;
        if mem::take(&mut cell.counted) {
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

impl Drop for Hold {
    fn drop(&mut self) {
        let mut state = self.hub.state();
        let cell = &mut state.cells[self.slot.0 as usize];
        cell.task = None;
        if cell.outstanding {
            cell.life = Life::Abandoned;
            return;
        }
        cell.life = Life::Closing;
        cell.answer = None;
        state.queue(self.slot, Request::Close);
    }
}
