//! The turns of many episodes at once.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering},
};

use envmill_protocol::{Decision, EpisodeIndex, Generation, JobId, PolicyError, Slot, Turn};
use envmill_workers::Waker;
use tokio::{runtime::Handle, task::AbortHandle};

use crate::{Agent, AgentCounts, talk::Talk};

/// Answers turns with what a language model says: a policy, in the sense of the engine's seam. Each turn is
/// a task on a runtime of its own; decisions are taken in batches.
#[derive(Clone)]
pub struct Agents {
    agent: Arc<Agent>,
    runtime: Handle,
    shared: Arc<Shared>,
}

struct Shared {
    table: Mutex<Table>,
    waker: Waker,
}

#[derive(Default)]
struct Table {
    /// Conversations between turns. A session has one; it is forgotten when the next episode begins.
    talks: HashMap<Slot, (JobId, EpisodeIndex, Talk)>,
    under_way: HashMap<Slot, (Generation, AbortHandle)>,
    ready: Vec<Decision>,
}

impl Agents {
    /// `waker` is woken when there are decisions.
    #[must_use]
    pub fn new(agent: Arc<Agent>, runtime: Handle, waker: Waker) -> Self {
        let shared = Arc::new(Shared { table: Mutex::default(), waker });
        Self { agent, runtime, shared }
    }

    /// What its agent has done.
    #[must_use]
    pub fn counts(&self) -> Arc<AgentCounts> {
        self.agent.counts()
    }

    /// Takes all turns, leaving the list empty.
    pub fn submit(&self, turns: &mut Vec<Turn>) {
        for turn in turns.drain(..) {
            self.begin(turn);
        }
    }

    /// These turns' decisions are no longer wanted: their generations are aborted.
    pub fn cancel(&self, turns: &[(Slot, Generation)]) {
        let mut table = self.shared.table();
        for (slot, generation) in turns {
            if table.under_way.get(slot).is_some_and(|it| it.0 == *generation)
                && let Some((_, task)) = table.under_way.remove(slot)
            {
                task.abort();
            }
        }
    }

    /// Appends the decisions that are ready.
    pub fn decisions(&self, decisions: &mut Vec<Decision>) {
        decisions.append(&mut self.shared.table().ready);
    }

    fn begin(&self, turn: Turn) {
        let (slot, generation) = (turn.slot, turn.generation);
        let mut table = self.shared.table();
        let known = table.talks.remove(&slot);
        let talk = if turn.step == 0 {
            Some(Talk::new(Arc::clone(&self.agent)))
        } else {
            let same = |it: &(JobId, EpisodeIndex, Talk)| (it.0, it.1) == (turn.job, turn.episode);
            known.filter(same).map(|it| it.2)
        };
        let Some(talk) = talk else {
            let message = "the conversation of this episode is not known (was its turn cancelled?)";
            table.ready.push(turn.decided(Err(PolicyError::new(message))));
            drop(table);
            return self.shared.waker.wake();
        };
        let under_way = Arc::clone(&self.agent.counts);
        under_way.under_way.fetch_add(1, Ordering::Relaxed);
        let shared = Arc::clone(&self.shared);
        let task = self.runtime.spawn(async move {
            let _counted = UnderWay(under_way);
            shared.play(talk, turn).await;
        });
        table.under_way.insert(slot, (generation, task.abort_handle()));
    }
}

/// A turn that waits for its model, until it is dropped.
struct UnderWay(Arc<AgentCounts>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Shared {
    async fn play(&self, mut talk: Talk, turn: Turn) {
        let said = talk.turn(&turn).await;
        let (slot, generation) = (turn.slot, turn.generation);
        let mut table = self.table();
        // One that was cancelled has been taken out; the session may be at another turn by now.
        if table.under_way.get(&slot).is_none_or(|it| it.0 != generation) {
            return;
        }
        table.under_way.remove(&slot);
        if said.action.is_ok() {
            table.talks.insert(slot, (turn.job, turn.episode, talk));
        }
        table.ready.push(Decision {
            slot,
            generation,
            action: said.action,
            generations: said.generations,
            spoken: said.spoken,
        });
        // One wake-up for all that become ready until they are taken.
        let is_first = table.ready.len() == 1;
        drop(table);
        if is_first {
            self.waker.wake();
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // Never held over a call of somebody else's code, nor over a wait.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        for (_, task) in self.under_way.values() {
            task.abort();
        }
    }
}
