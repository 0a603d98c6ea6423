//! The turns of a job for a trainer that is its policy.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use envmill_client::{Answers, Error, Turns, wire, wire::step_batch_response::Response};
use pyo3::{
    exceptions::PyValueError,
    prelude::*,
    types::{PyBytes, PyList},
};
use tokio::sync::oneshot;

use crate::{
    bell::Bell,
    errors::client_error,
    json::{self, Lazy},
    mailbox::Mailbox,
    pending::Pending,
    runtime::{Owned, Words},
    tokens::{Runs, Version},
};

const WORDS: Words = Words {
    name: "policy",
    instead: "answer the job's turns here, with envmill.Client().policy()",
};

/// The stream of a job's turns.
#[pyclass(frozen, module = "envmill._native")]
pub(crate) struct Seat(Owned<Open>);

struct Open {
    /// Batches; `None` at the job's end.
    batches: Arc<Mailbox<Option<Vec<wire::Turn>>>>,
    version: Arc<Mutex<Option<Version>>>,
    answers: Answers,
    stop: Mutex<Option<oneshot::Sender<()>>>,
}

impl Seat {
    /// Has the client's thread take what comes. To be called there.
    pub(crate) fn start(turns: Turns) -> Self {
        let batches = Arc::new(Mailbox::default());
        let version = Arc::new(Mutex::default());
        let (stop, stopped) = oneshot::channel();
        let open = Open {
            batches: Arc::clone(&batches),
            version: Arc::clone(&version),
            answers: turns.answers(),
            stop: Mutex::new(Some(stop)),
        };
        tokio::spawn(async move {
            let end = tokio::select! {
                end = receive(turns, &batches, &version) => end,
                _ = stopped => Error::Over("it was closed".into()),
            };
            batches.close(end);
        });
        Self(Owned::new(open, &WORDS))
    }
}

async fn receive(
    mut turns: Turns,
    batches: &Mailbox<Option<Vec<wire::Turn>>>,
    version: &Mutex<Option<Version>>,
) -> Error {
    loop {
        match turns.next().await {
            Ok(Some(Response::Turns(turns))) => batches.put(Some(turns.turns)),
            Ok(Some(Response::VersionCurrent(it))) => {
                let current = it.version.map(Version::from);
                *version.lock().unwrap_or_else(PoisonError::into_inner) = current;
            }
            // Their answers are dropped by the client.
            Ok(Some(Response::Cancelled(_) | Response::Over(_))) => {}
            Ok(None) => {
                batches.put(None);
                return Error::Over("the job has ended".into());
            }
            Err(error) => return error,
        }
    }
}

fn batch(py: Python<'_>, turns: Option<Vec<wire::Turn>>) -> PyResult<Py<PyAny>> {
    let Some(turns) = turns else { return Ok(py.None()) };
    let turns = turns.into_iter().map(|mut turn| {
        let start = turn.start.take();
        let start = start.map(|start| EpisodeStart { start, parameters: Lazy::new() });
        let start = start.map(|start| Py::new(py, start)).transpose()?;
        Py::new(py, Turn { turn, start, observation: Lazy::new() })
    });
    Ok(PyList::new(py, turns.collect::<PyResult<Vec<_>>>()?)?.into_any().unbind())
}

#[pymethods]
impl Seat {
    /// Whether it belongs to this process; an error if not.
    fn check(&self) -> PyResult<()> {
        self.0.get().map(|_| ())
    }

    /// The next batch, or `None` after the job's end.
    fn next(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        batch(py, self.0.get()?.batches.wait(py)?)
    }

    /// A list of the next batch, if there is one yet.
    fn next_if_there(&self, py: Python<'_>) -> PyResult<Vec<Py<PyAny>>> {
        let taken = self.0.get()?.batches.take().map_err(client_error)?;
        taken.into_iter().map(|turns| batch(py, turns)).collect()
    }

    /// Rings the bell when there is something.
    fn ring(&self, bell: &Bell, token: u64) -> PyResult<()> {
        self.0.get()?.batches.ring(bell.ring(token));
        Ok(())
    }

    #[getter]
    fn version(&self) -> PyResult<Option<Version>> {
        Ok(*self.0.get()?.version.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn answer(&self, answers: Vec<Answer<'_>>) -> PyResult<Pending> {
        let desk = self.0.get()?.answers.clone();
        let actions = answers.into_iter().map(action).collect::<PyResult<Vec<_>>>()?;
        Pending::done(async move { desk.answer(actions).await })
    }

    /// Leaves the job's turns to others. Nothing happens the second time.
    fn close(&self) -> PyResult<()> {
        let stop = &self.0.get()?.stop;
        if let Some(stop) = stop.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let _ = stop.send(());
        }
        Ok(())
    }
}

/// A turn's name, its action, and what was generated to come to it.
type Answer<'py> = (u64, Bound<'py, PyAny>, Option<Version>, Option<Vec<Generated>>);

/// Token ids of the prompt and of what was sampled; of the latter logarithms of the probabilities, the loss
/// mask and the versions; the generation that it continues, and its kind; how it went. As `_answers.py` has
/// checked them.
type Generated = (Vec<u32>, Vec<u32>, Vec<f32>, Vec<u8>, Runs, Option<u32>, String, Course);

/// Why it stopped, the tool that it called, and the microseconds in the inference engine and before it.
type Course = (String, String, u64, u64);

fn action((turn, action, version, generated): Answer<'_>) -> PyResult<wire::Action> {
    // An exception instead of an action is why there is none.
    let (action, error) = if action.is_instance_of::<pyo3::exceptions::PyBaseException>() {
        let error = action.str()?.to_string();
        let error = if error.is_empty() { action.get_type().name()?.to_string() } else { error };
        (Bytes::new(), error)
    } else {
        let text = json::text(&action);
        let wrong = |_| PyValueError::new_err(format!("the action for turn {turn} is no JSON"));
        (text.map_err(wrong)?, String::new())
    };
    let generations = generated.into_iter().flatten().map(self::generated).collect();
    let version = version.map(wire::Version::from);
    Ok(wire::Action { turn, action, error, version, generations })
}

fn generated(
    (prompt_token_ids, token_ids, logprobs, loss_mask, versions, parent, kind, course): Generated,
) -> wire::Generated {
    let (finish_reason, tool, generation_us, queue_us) = course;
    let span = |(version, tokens): (Version, u32)| wire::VersionSpan {
        version: Some(version.into()),
        tokens,
    };
    wire::Generated {
        prompt_token_ids,
        token_ids,
        logprobs,
        loss_mask: loss_mask.into(),
        policy_versions: versions.into_iter().map(span).collect(),
        parent,
        kind,
        finish_reason,
        tool,
        generation_us,
        queue_us,
        // The engine finds out what is shared, and which step it was.
        ..wire::Generated::default()
    }
}

/// An environment showed something and waits for an action.
#[pyclass(frozen, module = "envmill._native")]
pub(crate) struct Turn {
    turn: wire::Turn,
    start: Option<Py<EpisodeStart>>,
    observation: Lazy,
}

#[pymethods]
impl Turn {
    #[getter]
    const fn id(&self) -> u64 {
        self.turn.turn
    }

    #[getter]
    const fn episode(&self) -> u64 {
        self.turn.episode
    }

    #[getter]
    const fn group_id(&self) -> u64 {
        self.turn.group_id
    }

    #[getter]
    const fn step(&self) -> u32 {
        self.turn.step
    }

    #[getter]
    const fn seed(&self) -> u64 {
        self.turn.seed
    }

    #[getter]
    fn observation(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.observation.of(py, &self.turn.observation)
    }

    #[getter]
    fn observation_bytes<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.turn.observation)
    }

    #[getter]
    const fn reward(&self) -> Option<f64> {
        self.turn.reward
    }

    #[getter]
    const fn sample_index(&self) -> u32 {
        self.turn.sample_index
    }

    #[getter]
    fn start(&self, py: Python<'_>) -> Option<Py<EpisodeStart>> {
        self.start.as_ref().map(|start| start.clone_ref(py))
    }

    fn __repr__(&self) -> String {
        let wire::Turn { turn, episode, step, .. } = self.turn;
        format!("Turn(id={turn}, episode={episode}, step={step})")
    }
}

/// What an episode was begun with.
#[pyclass(frozen, module = "envmill._native")]
pub(crate) struct EpisodeStart {
    start: wire::EpisodeStart,
    parameters: Lazy,
}

#[pymethods]
impl EpisodeStart {
    #[getter]
    fn task_id(&self) -> &str {
        &self.start.task_id
    }

    #[getter]
    fn reset_parameters(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.parameters.of(py, &self.start.reset_parameters)
    }

    #[getter]
    fn reset_parameters_bytes<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.start.reset_parameters)
    }

    fn __repr__(&self) -> String {
        format!("EpisodeStart(task_id={:?})", self.start.task_id)
    }
}
