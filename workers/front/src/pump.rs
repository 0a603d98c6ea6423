//! Turns what sessions queue into batches, and the worker's events into answers.

use std::{
    future::poll_fn,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Wake, Waker as TaskWaker},
    thread,
    time::Duration,
};

use envmill_workers::{Waker, Worker};
use tokio::{sync::Notify, time};

use crate::hub::Hub;

/// How often answers that are not there at once are looked for.
const TICK: Duration = Duration::from_millis(1);

/// How long the worker's own thread waits at most; a waker ends the wait earlier.
const WAIT: Duration = Duration::from_secs(1);

/// Runs the worker on this thread, for ever.
pub(crate) async fn same_thread(hub: Arc<Hub>, mut worker: Box<dyn Worker>) {
    let mut batch = Vec::new();
    let mut events = Vec::new();
    let mut tasks = Vec::new();
    loop {
        if hub.owed() {
            // The timer only bounds how late an answer is; what is queued meanwhile goes at once.
            let _ = time::timeout(TICK, poll_fn(|cx| hub.poll_batch(&mut batch, cx))).await;
        } else {
            poll_fn(|cx| hub.poll_batch(&mut batch, cx)).await;
        }
        if !batch.is_empty() {
            worker.submit(&mut batch);
        }
        worker.completions(&mut events, Duration::ZERO);
        hub.deliver(&mut events, &mut tasks);
        tasks.drain(..).for_each(TaskWaker::wake);
    }
}

/// A worker on a thread of its own; dropping it stops the thread after its current wait.
pub(crate) struct OwnThread {
    stop: Arc<AtomicBool>,
    waker: Waker,
}

impl OwnThread {
    /// Starts the thread. The tasks it wakes are woken by [`fan_out`](Self::fan_out) on the front's
    /// thread, so that a batch of answers crosses threads once.
    pub(crate) fn start(
        hub: Arc<Hub>,
        mut worker: Box<dyn Worker>,
    ) -> io::Result<(Self, impl Future<Output = ()> + Send)> {
        let stop = Arc::new(AtomicBool::new(false));
        let waker = worker.waker();
        let answered = Arc::new(Notify::new());
        let woken = Arc::new(std::sync::Mutex::new(Vec::new()));
        let queued = TaskWaker::from(Arc::new(Queued(waker.clone())));

        let this = Self { stop: Arc::clone(&stop), waker };
        let notify = Arc::clone(&answered);
        let outbox = Arc::clone(&woken);
        thread::Builder::new().name("worker".into()).spawn(move || {
            let mut batch = Vec::new();
            let mut events = Vec::new();
            let mut tasks = Vec::new();
            while !stop.load(Ordering::Acquire) {
                // Until there is nothing more to take: only then is the wait below ended by what is
                // queued meanwhile.
                let mut context = Context::from_waker(&queued);
                while hub.poll_batch(&mut batch, &mut context).is_ready() {
                    worker.submit(&mut batch);
                }
                worker.completions(&mut events, WAIT);
                if events.is_empty() {
                    continue;
                }
                hub.deliver(&mut events, &mut tasks);
                lock(&outbox).append(&mut tasks);
                notify.notify_one();
            }
        })?;

        let fan_out = async move {
            let mut tasks: Vec<TaskWaker> = Vec::new();
            loop {
                answered.notified().await;
                std::mem::swap(&mut tasks, &mut lock(&woken));
                tasks.drain(..).for_each(TaskWaker::wake);
            }
        };
        Ok((this, fan_out))
    }
}

fn lock<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl Drop for OwnThread {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        self.waker.wake();
    }
}

/// Ends the worker's wait when something is queued.
struct Queued(Waker);

impl Wake for Queued {
    fn wake(self: Arc<Self>) {
        self.0.wake();
    }
}
