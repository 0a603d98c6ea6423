//! A thread that writes.

use std::{
    collections::VecDeque,
    io,
    sync::mpsc::{self, Receiver, RecvTimeoutError, Sender},
    thread::{self, JoinHandle},
    time::Duration,
};

use bytes::Bytes;
use envmill_delivery::{Batch, JobKey, Ticket};

use crate::{ApplyError, ReadError, Store};

/// How long a disk that is full or fails is left alone.
const REST: Duration = Duration::from_secs(1);

/// A thread with a [`Store`], which writes and reads in the order that it is asked to.
///
/// Its queue has no bound of its own: a caller that gives it the next batch when the one before is
/// committed has at most one there, and everything that happens meanwhile gathers in the next.
#[derive(Debug)]
pub struct Scribe {
    wishes: Sender<Wish>,
    thread: JoinHandle<Store>,
}

/// What a scribe has to tell.
#[derive(Debug)]
pub enum News {
    /// A batch is on disk.
    Committed(Ticket),
    /// A payload that was asked for; `None` where there is none.
    Loaded {
        /// The job.
        job: JobKey,
        /// The item's key.
        sequence: u64,
        /// The bytes.
        payload: Option<Bytes>,
    },
    /// A batch was not written. It is tried again every second.
    WriteFails(ApplyError),
    /// A payload was not read. It is tried again every second.
    ReadFails(ReadError),
}

#[derive(Debug)]
enum Wish {
    Write(Batch),
    Read(JobKey, u64),
    Finish,
}

impl Scribe {
    /// Starts the thread. `tell` is called on it.
    ///
    /// # Errors
    ///
    /// The system has no thread left.
    pub fn start(store: Store, tell: impl FnMut(News) + Send + 'static) -> io::Result<Self> {
        let (wishes, receiver) = mpsc::channel();
        let desk = Desk { store, wishes: receiver, put_off: VecDeque::new(), tell };
        let thread = thread::Builder::new().name("journal".into()).spawn(move || desk.work())?;
        Ok(Self { wishes, thread })
    }

    /// Has a batch written; [`News::Committed`] follows.
    pub fn write(&self, batch: Batch) {
        self.ask(Wish::Write(batch));
    }

    /// Has a payload read; [`News::Loaded`] follows.
    pub fn read(&self, job: JobKey, sequence: u64) {
        self.ask(Wish::Read(job, sequence));
    }

    /// Waits until everything is written, and gives the store back. What a full or failing disk does not
    /// take is given up, and was never told to be committed. `None` if the thread has panicked.
    #[must_use]
    pub fn finish(self) -> Option<Store> {
        self.ask(Wish::Finish);
        self.thread.join().ok()
    }

    fn ask(&self, wish: Wish) {
        // It goes only when it is told to, or has panicked, which whoever waits for news finds out.
        let _ = self.wishes.send(wish);
    }
}

struct Desk<T> {
    store: Store,
    wishes: Receiver<Wish>,
    /// What came while the disk was left alone.
    put_off: VecDeque<Wish>,
    tell: T,
}

impl<T: FnMut(News)> Desk<T> {
    fn work(mut self) -> Store {
        loop {
            let next = self.put_off.pop_front().map_or_else(|| self.wishes.recv(), Ok);
            let is_done = match next {
                Ok(Wish::Write(batch)) => self.write(&batch),
                Ok(Wish::Read(job, sequence)) => self.read(job, sequence),
                Ok(Wish::Finish) | Err(_) => false,
            };
            if !is_done {
                return self.store;
            }
        }
    }

    /// False if it was given up.
    fn write(&mut self, batch: &Batch) -> bool {
        while let Err(error) = self.store.apply(batch) {
            (self.tell)(News::WriteFails(error));
            if !self.rest() {
                return false;
            }
        }
        (self.tell)(News::Committed(batch.ticket));
        true
    }

    fn read(&mut self, job: JobKey, sequence: u64) -> bool {
        loop {
            match self.store.payload(job, sequence) {
                Ok(payload) => {
                    (self.tell)(News::Loaded { job, sequence, payload });
                    return true;
                }
                Err(error) => (self.tell)(News::ReadFails(error)),
            }
            if !self.rest() {
                return false;
            }
        }
    }

    /// Leaves the disk alone for a while. False if nobody wants it to go on.
    fn rest(&mut self) -> bool {
        loop {
            match self.wishes.recv_timeout(REST) {
                Ok(Wish::Finish) | Err(RecvTimeoutError::Disconnected) => return false,
                Ok(wish) => self.put_off.push_back(wish),
                Err(RecvTimeoutError::Timeout) => return true,
            }
        }
    }
}
