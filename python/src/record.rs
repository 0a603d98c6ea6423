//! The record of an episode, its steps and its end.

use std::sync::Arc;

use envmill_client::wire::layout::ArrayKind;
use envmill_protocol::{
    Observed as Shown, Trajectory,
    record::{End as EndedHow, Step as Stepped, read_json_line, write_json_line},
};
use pyo3::{
    exceptions::PyValueError,
    prelude::*,
    sync::PyOnceLock,
    types::{PyBytes, PyDict, PyTuple, PyType},
};

use crate::{
    array::{self, Element},
    history::{Attempt, Delivery, Timing},
    json::{Lazy, parsed},
    lent::Lent,
    tokens::{Blob, Generation, Runs, TurnSpan, runs},
};

fn line(trajectory: &Trajectory) -> Vec<u8> {
    let mut line = Vec::new();
    write_json_line(&mut line, trajectory);
    line
}

/// The record of one episode, from request to end.
#[pyclass(frozen, module = "envmill._native")]
pub(crate) struct Record {
    /// Without the arrays that are lent.
    trajectory: Arc<Trajectory>,
    lent: Option<Lent>,
    /// How it came, if a service sent it.
    delivery: Option<Delivery>,
    steps: PyOnceLock<Py<PyTuple>>,
    generations: PyOnceLock<Py<PyTuple>>,
    reset: PyOnceLock<Option<Py<Observed>>>,
    reset_parameters: Lazy,
    messages: Lazy,
    sampling: Lazy,
}

impl Record {
    pub(crate) fn new(trajectory: Trajectory) -> Self {
        Self::delivered(trajectory, None, None)
    }

    pub(crate) fn delivered(
        trajectory: Trajectory,
        lent: Option<Lent>,
        delivery: Option<Delivery>,
    ) -> Self {
        Self {
            trajectory: Arc::new(trajectory),
            lent,
            delivery,
            steps: PyOnceLock::new(),
            generations: PyOnceLock::new(),
            reset: PyOnceLock::new(),
            reset_parameters: Lazy::new(),
            messages: Lazy::new(),
            sampling: Lazy::new(),
        }
    }

    /// With the arrays that are lent, copied.
    fn whole(&self) -> PyResult<Arc<Trajectory>> {
        match &self.lent {
            Some(lent) => lent.whole().map(Arc::new),
            None => Ok(Arc::clone(&self.trajectory)),
        }
    }

    fn array<'py, T: Element>(
        &self,
        py: Python<'py>,
        kind: ArrayKind,
        of: impl FnOnce(&Trajectory) -> &[T],
    ) -> PyResult<Bound<'py, PyAny>> {
        let lent = self.lent.as_ref().map(|lent| lent.array(py, kind)).transpose()?;
        lent.flatten().map_or_else(|| array::of_record(py, &self.trajectory, of), Ok)
    }
}

#[pymethods]
impl Record {
    #[getter]
    fn trajectory_id(&self) -> &str {
        &self.trajectory.trajectory_id
    }

    #[getter]
    fn job_id(&self) -> &str {
        &self.trajectory.job_id
    }

    #[getter]
    fn group_id(&self) -> u64 {
        self.trajectory.group_id
    }

    #[getter]
    fn sample_index(&self) -> u32 {
        self.trajectory.sample_index
    }

    #[getter]
    fn task_id(&self) -> &str {
        &self.trajectory.task_id
    }

    #[getter]
    fn environment(&self) -> &str {
        &self.trajectory.environment
    }

    #[getter]
    fn branch_id(&self) -> u32 {
        self.trajectory.branch_id
    }

    #[getter]
    fn parent_branch(&self) -> Option<u32> {
        self.trajectory.parent_branch
    }

    #[getter]
    fn agent_id(&self) -> u32 {
        self.trajectory.agent_id
    }

    #[getter]
    fn server(&self) -> &str {
        &self.trajectory.provenance.server
    }

    #[getter]
    fn session_id(&self) -> &str {
        &self.trajectory.provenance.session_id
    }

    #[getter]
    fn episode_in_session(&self) -> u32 {
        self.trajectory.provenance.episode_in_session
    }

    #[getter]
    fn environment_fingerprint(&self) -> &str {
        &self.trajectory.provenance.environment_fingerprint
    }

    #[getter]
    fn attempts<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.trajectory.attempts.iter().map(Attempt::from))
    }

    #[getter]
    fn seed(&self) -> Option<u64> {
        self.trajectory.seed
    }

    #[getter]
    fn reset_parameters(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.reset_parameters.of(py, &self.trajectory.reset_parameters)
    }

    #[getter]
    fn reset(&self, py: Python<'_>) -> PyResult<Option<Py<Observed>>> {
        let make = || {
            let reset = self.trajectory.reset.as_ref();
            reset.map(|_| Py::new(py, Observed::new(&self.trajectory, None))).transpose()
        };
        Ok(self.reset.get_or_try_init(py, make)?.as_ref().map(|reset| reset.clone_ref(py)))
    }

    #[getter]
    fn steps(&self, py: Python<'_>) -> PyResult<Py<PyTuple>> {
        let make = || {
            let steps = (0..self.trajectory.steps.len()).map(|number| {
                let step = Step { action: Lazy::new() };
                let observed = Observed::new(&self.trajectory, Some(number));
                Py::new(py, PyClassInitializer::from(observed).add_subclass(step))
            });
            PyTuple::new(py, steps.collect::<PyResult<Vec<_>>>()?).map(Bound::unbind)
        };
        self.steps.get_or_try_init(py, make).map(|steps| steps.clone_ref(py))
    }

    #[getter]
    fn reward(&self) -> Option<f64> {
        self.trajectory.reward
    }

    #[getter]
    fn rewards<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let lent = self.lent.as_ref().map(|lent| lent.array(py, ArrayKind::StepRewards));
        if let Some(rewards) = lent.transpose()?.flatten() {
            return Ok(rewards);
        }
        let rewards = self.trajectory.steps.iter();
        let rewards = rewards.map(|step| step.reward().value.unwrap_or(f64::NAN));
        array::of_made(py, rewards.collect())
    }

    #[getter]
    fn reward_components<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        named(py, &self.trajectory.reward_components)
    }

    #[getter]
    fn token_ids<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.array(py, ArrayKind::TokenIds, |it| &it.tokens.token_ids[..])
    }

    #[getter]
    fn prompt_len(&self) -> u32 {
        self.trajectory.tokens.prompt_len
    }

    #[getter]
    fn loss_mask<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.array(py, ArrayKind::LossMask, |it| &it.tokens.loss_mask[..])
    }

    #[getter]
    fn logprobs<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.array(py, ArrayKind::Logprobs, |it| &it.tokens.logprobs[..])
    }

    #[getter]
    fn policy_versions(&self) -> Runs {
        runs(&self.trajectory.tokens.policy_versions)
    }

    #[getter]
    fn generations(&self, py: Python<'_>) -> PyResult<Py<PyTuple>> {
        let make = || PyTuple::new(py, Generation::all(&self.trajectory)).map(Bound::unbind);
        self.generations.get_or_try_init(py, make).map(|made| made.clone_ref(py))
    }

    #[getter]
    fn turns<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.trajectory.turns.iter().map(TurnSpan::from))
    }

    #[getter]
    fn messages(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.messages.of(py, &self.trajectory.messages)
    }

    #[getter]
    fn sampling(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.sampling.of(py, &self.trajectory.sampling)
    }

    #[getter]
    fn blobs<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let dict = PyDict::new(py);
        for (name, blob) in Blob::all(&self.trajectory, self.lent.as_ref()) {
            dict.set_item(name, blob)?;
        }
        Ok(dict)
    }

    #[getter]
    fn metrics<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        named(py, &self.trajectory.metrics)
    }

    #[getter]
    fn end(&self) -> End {
        End(Arc::clone(&self.trajectory))
    }

    #[getter]
    fn timing(&self) -> Timing {
        Timing::from(&self.trajectory.timing)
    }

    #[getter]
    const fn delivery(&self) -> Option<Delivery> {
        self.delivery
    }

    #[getter]
    fn content_hash(&self) -> String {
        self.trajectory.content_hash.to_string()
    }

    fn to_dict(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        parsed(py, &line(&*self.whole()?))
    }

    fn to_json<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        Ok(PyBytes::new(py, line(&*self.whole()?).trim_ascii_end()))
    }

    /// Whether arrays of it are in shared memory.
    #[getter]
    const fn in_place(&self) -> bool {
        self.lent.is_some()
    }

    /// The same record with memory of its own.
    fn copy(&self) -> PyResult<Self> {
        let trajectory = Arc::unwrap_or_clone(self.whole()?);
        Ok(Self::delivered(trajectory, None, self.delivery))
    }

    #[staticmethod]
    fn from_json(text: &[u8]) -> PyResult<Self> {
        let trajectory = read_json_line(text);
        trajectory.map(Self::new).map_err(|error| PyValueError::new_err(error.to_string()))
    }

    /// What was pickled.
    #[staticmethod]
    fn _restored(text: &[u8], delivery: Option<Delivery>) -> PyResult<Self> {
        Ok(Self { delivery, ..Self::from_json(text)? })
    }

    fn __reduce__<'py>(this: &Bound<'py, Self>) -> PyResult<Reduced<'py>> {
        let restored = PyType::new::<Self>(this.py()).getattr("_restored")?;
        Ok((restored, (this.get().to_json(this.py())?, this.get().delivery)))
    }

    fn __repr__(&self) -> String {
        let Trajectory { trajectory_id, seed, reward, steps, end, .. } = &*self.trajectory;
        format!(
            "Record(trajectory_id={trajectory_id:?}, seed={}, reward={}, steps={}, end={:?})",
            or_none(*seed),
            or_none(*reward),
            steps.len(),
            end.name()
        )
    }
}

/// What pickle makes a record from.
type Reduced<'py> = (Bound<'py, PyAny>, (Bound<'py, PyBytes>, Option<Delivery>));

fn named<'py>(py: Python<'py>, numbers: &[(String, f64)]) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    for (name, value) in numbers {
        dict.set_item(name, value)?;
    }
    Ok(dict)
}

fn or_none<T: std::fmt::Debug>(value: Option<T>) -> String {
    value.map_or_else(|| "None".into(), |value| format!("{value:?}"))
}

/// What the environment showed at the reset or after a step.
#[pyclass(frozen, subclass, module = "envmill._native")]
pub(crate) struct Observed {
    trajectory: Arc<Trajectory>,
    /// Of which step; `None` for the reset.
    step: Option<usize>,
    observation: Lazy,
    metadata: Lazy,
}

impl Observed {
    /// `step` is within the trajectory, which has a reset where it is `None`.
    fn new(trajectory: &Arc<Trajectory>, step: Option<usize>) -> Self {
        Self {
            trajectory: Arc::clone(trajectory),
            step,
            observation: Lazy::new(),
            metadata: Lazy::new(),
        }
    }

    fn shown(&self) -> Option<&Shown> {
        match self.step {
            Some(step) => self.trajectory.steps.get(step).map(|step| &step.observed),
            None => self.trajectory.reset.as_ref(),
        }
    }

    fn bytes(&self, of: impl FnOnce(&Shown) -> &[u8]) -> &[u8] {
        self.shown().map(of).unwrap_or_default()
    }
}

#[pymethods]
impl Observed {
    #[getter]
    fn observation(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.observation.of(py, self.bytes(|shown| &shown.observation))
    }

    #[getter]
    fn observation_bytes<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, self.bytes(|shown| &shown.observation))
    }

    #[getter]
    fn reward(&self) -> Option<f64> {
        self.shown().and_then(|shown| shown.reward.value)
    }

    #[getter]
    fn reward_bytes<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, self.bytes(|shown| &shown.reward.raw))
    }

    #[getter]
    fn metadata(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.metadata.of(py, self.bytes(|shown| &shown.metadata))
    }

    #[getter]
    fn ended(&self) -> Option<&'static str> {
        self.shown().and_then(|shown| shown.ended).map(|ended| ended.name())
    }
}

/// An action and what it led to.
#[pyclass(frozen, extends = Observed, module = "envmill._native")]
pub(crate) struct Step {
    action: Lazy,
}

impl Step {
    fn stepped<'a>(this: &'a Bound<'_, Self>) -> Option<&'a Stepped> {
        let observed = this.as_super().get();
        observed.step.and_then(|step| observed.trajectory.steps.get(step))
    }
}

#[pymethods]
impl Step {
    #[getter]
    fn action(this: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        let action = Self::stepped(this).map_or(&[][..], |step| &step.action);
        this.get().action.of(this.py(), action)
    }

    #[getter]
    fn action_bytes<'py>(this: &Bound<'py, Self>) -> Bound<'py, PyBytes> {
        let action = Self::stepped(this).map_or(&[][..], |step| &step.action);
        PyBytes::new(this.py(), action)
    }

    #[getter]
    fn environment_us(this: &Bound<'_, Self>) -> u32 {
        Self::stepped(this).map(|step| step.environment_us).unwrap_or_default()
    }

    #[getter]
    fn policy_us(this: &Bound<'_, Self>) -> u32 {
        Self::stepped(this).map(|step| step.policy_us).unwrap_or_default()
    }
}

/// How an episode ended.
#[pyclass(frozen, module = "envmill._native")]
pub(crate) struct End(Arc<Trajectory>);

#[pymethods]
impl End {
    #[getter]
    fn kind(&self) -> &'static str {
        self.0.end.name()
    }

    #[getter]
    fn cause(&self) -> String {
        self.0.end.cause()
    }

    #[getter]
    fn message(&self) -> &str {
        match &self.0.end {
            EndedHow::Failed(failure) => &failure.message,
            _ => "",
        }
    }

    fn __repr__(&self) -> String {
        format!("End(kind={:?}, cause={:?})", self.kind(), self.cause())
    }
}
