//! A job's records as they come, and what its trainer says.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use envmill_client::{Delivered, Error, Event, Rollouts, Wishes, wire};
use envmill_protocol::Trajectory;
use prost_reflect::DynamicMessage;
use pyo3::{prelude::*, types::PyString};
use tokio::sync::oneshot;

use crate::{
    bell::Bell,
    errors::client_error,
    history::Delivery,
    lent::Lent,
    mailbox::Mailbox,
    messages,
    pending::Pending,
    record::Record,
    runtime::{Owned, Words},
    tokens::Version,
};

const WORDS: Words = Words {
    name: "stream of records",
    instead: "attach to the job here, with envmill.Client().attach()",
};

/// The stream of one job. Dropping it leaves the job alone.
#[pyclass(frozen, module = "envmill._native")]
pub(crate) struct Stream(Owned<Open>);

struct Open {
    accepted: wire::JobAccepted,
    letters: Arc<Mailbox<Letter>>,
    progress: Progress,
    wishes: Wishes,
    /// Rewinds that were asked for and have not taken place. What comes before they do comes again after.
    rewinds: AtomicU64,
    /// Ends the task that fills the mailbox.
    stop: Mutex<Option<oneshot::Sender<()>>>,
}

/// The last that was told.
type Progress = Arc<Mutex<Option<Box<wire::Progress>>>>;

enum Letter {
    /// The record of an episode, what of it is elsewhere, and how many bytes it came in.
    Record(Box<Trajectory>, Option<Lent>, Delivery, u64),
    /// Anything else.
    Other(Event),
}

impl Stream {
    /// Has the client's thread take what comes. To be called there.
    pub(crate) fn start(rollouts: Rollouts) -> Self {
        let letters = Arc::new(Mailbox::default());
        let progress = Progress::default();
        let (stop, stopped) = oneshot::channel();
        let open = Open {
            accepted: rollouts.accepted().clone(),
            letters: Arc::clone(&letters),
            progress: Arc::clone(&progress),
            wishes: rollouts.wishes(),
            rewinds: AtomicU64::new(0),
            stop: Mutex::new(Some(stop)),
        };
        tokio::spawn(async move {
            let end = tokio::select! {
                end = receive(rollouts, &letters, &progress) => end,
                _ = stopped => Error::Over("it was closed".into()),
            };
            letters.close(end);
        });
        Self(Owned::new(open, &WORDS))
    }
}

async fn receive(mut rollouts: Rollouts, letters: &Mailbox<Letter>, progress: &Progress) -> Error {
    loop {
        let event = match rollouts.next().await {
            Some(Ok(event)) => event,
            Some(Err(error)) => return error,
            None => return Error::Over("its task has ended".into()),
        };
        match event {
            Event::Progress(told) => {
                *progress.lock().unwrap_or_else(PoisonError::into_inner) = Some(told.clone());
                let letter = Letter::Other(Event::Progress(told));
                letters.put_over(letter, |last| matches!(last, Letter::Other(Event::Progress(_))));
            }
            Event::Delivered(delivered)
                if matches!(delivered.record, wire::Record::Trajectory(_)) =>
            {
                let delivery = Delivery::from(&*delivered);
                let Delivered { bytes, record, number, in_place, .. } = *delivered;
                let wire::Record::Trajectory(message) = record else { continue };
                match wire::read_trajectory(*message) {
                    Ok(trajectory) => {
                        let lent = in_place.map(Lent::new);
                        letters.put(Letter::Record(Box::new(trajectory), lent, delivery, bytes));
                    }
                    Err(problem) => {
                        return Error::Nonsense(format!("delivery {number}: {problem}"));
                    }
                }
            }
            other => letters.put(Letter::Other(other)),
        }
    }
}

impl Open {
    /// `None` for what nobody wants to see.
    fn object(&self, py: Python<'_>, letter: Letter) -> PyResult<Option<Py<PyAny>>> {
        if self.rewinds.load(Ordering::Relaxed) > 0 {
            match letter {
                Letter::Record(.., bytes) => self.wishes.taken(bytes),
                Letter::Other(Event::Delivered(it)) => self.wishes.taken(it.bytes),
                Letter::Other(Event::Rewound) => {
                    self.rewinds.fetch_sub(1, Ordering::Relaxed);
                }
                Letter::Other(_) => {}
            }
            return Ok(None);
        }
        let event = match letter {
            Letter::Record(trajectory, lent, delivery, bytes) => {
                self.wishes.taken(bytes);
                let record = Record::delivered(*trajectory, lent, Some(delivery));
                return Ok(Some(Py::new(py, record)?.into_any()));
            }
            Letter::Other(event) => event,
        };
        let mut delivery = None;
        let (kind, message): (_, Option<DynamicMessage>) = match event {
            Event::Delivered(delivered) => {
                self.wishes.taken(delivered.bytes);
                delivery = Some(Delivery::from(&*delivered));
                match &delivered.record {
                    wire::Record::Trajectory(it) => told("Trajectory", &**it)?,
                    wire::Record::Group(it) => told("Group", &**it)?,
                    wire::Record::End(it) => told("JobEnd", &**it)?,
                    wire::Record::Stale(it) => told("Stale", it)?,
                }
            }
            Event::Batch(it) => told("Batch", &it)?,
            Event::NoMoreBatches => ("NoMoreBatches", None),
            Event::Progress(it) => told("Progress", &*it)?,
            Event::Warning(it) => told("Warning", &it)?,
            Event::VersionCurrent(it) => {
                let version = Version::from(it).into_pyobject(py)?;
                let named = (PyString::new(py, "Version"), version, py.None());
                return Ok(Some(named.into_pyobject(py)?.into_any().unbind()));
            }
            Event::Rewound => return Ok(None),
            Event::Settled => ("Settled", None),
        };
        let message = message.map(|message| messages::plain(py, &message)).transpose()?;
        Ok(Some((kind, message, delivery).into_pyobject(py)?.into_any().unbind()))
    }
}

fn told(
    name: &'static str,
    message: &impl prost::Message,
) -> PyResult<(&'static str, Option<DynamicMessage>)> {
    Ok((name, Some(messages::dynamic(name, message)?)))
}

#[pymethods]
impl Stream {
    /// Whether it belongs to this process; an error if not.
    fn check(&self) -> PyResult<()> {
        self.0.get().map(|_| ())
    }

    #[getter]
    fn job_id(&self) -> PyResult<&str> {
        Ok(&self.0.get()?.accepted.job_id)
    }

    #[getter]
    fn accepted(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let accepted = messages::dynamic("JobAccepted", &self.0.get()?.accepted)?;
        messages::plain(py, &accepted)
    }

    #[getter]
    fn progress(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        let told = self.0.get()?.progress.lock().unwrap_or_else(PoisonError::into_inner).clone();
        told.map(|told| messages::plain(py, &messages::dynamic("Progress", &*told)?)).transpose()
    }

    /// What comes next: a record, or what else was told as its name, its fields and its delivery.
    fn next(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let open = self.0.get()?;
        loop {
            if let Some(object) = open.object(py, open.letters.wait(py)?)? {
                return Ok(object);
            }
        }
    }

    /// The same, or `None` if there is nothing yet.
    fn next_if_there(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        let open = self.0.get()?;
        while let Some(letter) = open.letters.take().map_err(client_error)? {
            if let Some(object) = open.object(py, letter)? {
                return Ok(Some(object));
            }
        }
        Ok(None)
    }

    /// Rings the bell when there is something.
    fn ring(&self, bell: &Bell, token: u64) -> PyResult<()> {
        self.0.get()?.letters.ring(bell.ring(token));
        Ok(())
    }

    fn acknowledge(&self, ranges: Vec<(u64, u64)>, checkpoint: &str) -> PyResult<Pending> {
        let ranges: Vec<_> = ranges.into_iter().map(|(first, last)| first..=last).collect();
        Pending::done(self.0.get()?.wishes.acknowledge(&ranges, checkpoint))
    }

    fn announce(
        &self,
        step: u64,
        lineage: u32,
        in_flight: Option<Bound<'_, PyAny>>,
        weights: &str,
    ) -> PyResult<Pending> {
        let in_flight = in_flight
            .map(|word| messages::word("AnnounceVersion", "in_flight", "in_flight", &word))
            .transpose()?
            .and_then(|number| wire::InFlight::try_from(number).ok());
        let version = wire::Version { lineage, step };
        Pending::done(self.0.get()?.wishes.announce(version, in_flight, weights))
    }

    fn pause(&self) -> PyResult<Pending> {
        Pending::done(self.0.get()?.wishes.pause())
    }

    fn resume(&self) -> PyResult<Pending> {
        Pending::done(self.0.get()?.wishes.resume())
    }

    fn drain(&self) -> PyResult<Pending> {
        Pending::done(self.0.get()?.wishes.drain())
    }

    fn cancel(&self) -> PyResult<Pending> {
        Pending::done(self.0.get()?.wishes.cancel())
    }

    fn durable(&self, checkpoint: String) -> PyResult<Pending> {
        Pending::done(self.0.get()?.wishes.durable(checkpoint))
    }

    fn rewind(&self, checkpoint: String) -> PyResult<Pending> {
        let open = self.0.get()?;
        open.rewinds.fetch_add(1, Ordering::Relaxed);
        Pending::done(open.wishes.rewind(checkpoint))
    }

    fn next_batch(&self, index: u64, groups: u64) -> PyResult<Pending> {
        Pending::done(self.0.get()?.wishes.next_batch(index, groups))
    }

    fn release_share(&self, index: u64, rank: u32) -> PyResult<Pending> {
        Pending::done(self.0.get()?.wishes.release_share(index, rank))
    }

    /// Leaves the job. Nothing happens the second time.
    fn close(&self) -> PyResult<()> {
        let stop = &self.0.get()?.stop;
        if let Some(stop) = stop.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let _ = stop.send(());
        }
        Ok(())
    }
}
