//! What a language model said in an episode: generations, versions, turns and attachments.

use std::sync::Arc;

use envmill_client::wire::{self, layout::ArrayKind};
use envmill_protocol::{
    Generated, PolicyVersion, Trajectory, VersionSpan,
    record::{Blob as Attached, TurnSpan as Span, whole_prompt},
};
use pyo3::{prelude::*, types::PyBytes};

use crate::{
    array::{of_bytes, of_made, of_record},
    lent::Lent,
};

/// A version of a policy's weights.
#[pyclass(frozen, get_all, eq, ord, hash, from_py_object, module = "envmill._native")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Version {
    lineage: u32,
    step: u64,
}

impl From<PolicyVersion> for Version {
    fn from(version: PolicyVersion) -> Self {
        Self { lineage: version.lineage().into(), step: version.step() }
    }
}

impl From<wire::Version> for Version {
    fn from(version: wire::Version) -> Self {
        Self { lineage: version.lineage, step: version.step }
    }
}

impl From<Version> for wire::Version {
    fn from(version: Version) -> Self {
        Self { lineage: version.lineage, step: version.step }
    }
}

#[pymethods]
impl Version {
    #[new]
    #[pyo3(signature = (step, lineage=0))]
    const fn new(step: u64, lineage: u32) -> Self {
        Self { lineage, step }
    }

    const fn __getnewargs__(&self) -> (u64, u32) {
        (self.step, self.lineage)
    }

    fn __repr__(&self) -> String {
        format!("Version(step={}, lineage={})", self.step, self.lineage)
    }
}

/// Runs of tokens by one version each.
pub(crate) type Runs = Vec<(Version, u32)>;

pub(crate) fn runs(spans: &[VersionSpan]) -> Runs {
    spans.iter().map(|span| (span.version.into(), span.tokens)).collect()
}

/// One call of a language model.
#[pyclass(frozen, module = "envmill._native")]
pub(crate) struct Generation {
    trajectory: Arc<Trajectory>,
    /// Which one; within the trajectory's.
    index: usize,
}

impl Generation {
    pub(crate) fn all(trajectory: &Arc<Trajectory>) -> Vec<Self> {
        let one = |index| Self { trajectory: Arc::clone(trajectory), index };
        (0..trajectory.generations.len()).map(one).collect()
    }

    fn it(&self) -> &Generated {
        &self.trajectory.generations[self.index]
    }
}

#[pymethods]
impl Generation {
    #[getter]
    fn prompt_token_ids<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        if self.it().prompt_shared > 0 {
            return of_made(py, whole_prompt(&self.trajectory.generations, self.index));
        }
        of_record(py, &self.trajectory, |it| &it.generations[self.index].prompt_token_ids[..])
    }

    #[getter]
    fn prompt_shared(&self) -> u32 {
        self.it().prompt_shared
    }

    #[getter]
    fn prompt_len(&self) -> usize {
        self.it().prompt_len()
    }

    #[getter]
    fn token_ids<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        of_record(py, &self.trajectory, |it| &it.generations[self.index].token_ids[..])
    }

    #[getter]
    fn is_known(&self) -> bool {
        self.it().is_known()
    }

    #[getter]
    fn logprobs<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        of_record(py, &self.trajectory, |it| &it.generations[self.index].logprobs[..])
    }

    #[getter]
    fn loss_mask<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        of_record(py, &self.trajectory, |it| &it.generations[self.index].loss_mask[..])
    }

    #[getter]
    fn policy_versions(&self) -> Runs {
        runs(&self.it().policy_versions)
    }

    #[getter]
    fn parent(&self) -> Option<u32> {
        self.it().parent
    }

    #[getter]
    fn kind(&self) -> &'static str {
        self.it().kind.name()
    }

    #[getter]
    fn step(&self) -> Option<u32> {
        self.it().step
    }

    #[getter]
    fn finish_reason(&self) -> &str {
        &self.it().finish_reason
    }

    #[getter]
    fn tool(&self) -> &str {
        &self.it().tool
    }

    #[getter]
    fn generation_us(&self) -> u64 {
        self.it().generation_us
    }

    #[getter]
    fn queue_us(&self) -> u64 {
        self.it().queue_us
    }

    fn __repr__(&self) -> String {
        let Generated { token_ids, kind, .. } = self.it();
        let (prompt, sampled) = (self.it().prompt_len(), token_ids.len());
        format!("<envmill.Generation of {sampled} tokens after {prompt} ({})>", kind.name())
    }
}

/// A turn of a conversation as a span of tokens.
#[pyclass(frozen, get_all, module = "envmill._native")]
pub(crate) struct TurnSpan {
    role: String,
    start: u32,
    end: u32,
    tool: String,
    finish_reason: String,
    generation_us: u64,
    environment_us: u64,
    queue_us: u64,
}

impl From<&Span> for TurnSpan {
    fn from(span: &Span) -> Self {
        let Span { role, start, end, tool, finish_reason, generation_us, environment_us, queue_us } =
            span.clone();
        Self { role, start, end, tool, finish_reason, generation_us, environment_us, queue_us }
    }
}

#[pymethods]
impl TurnSpan {
    fn __repr__(&self) -> String {
        format!("TurnSpan(role={:?}, start={}, end={})", self.role, self.start, self.end)
    }
}

/// A named array of bytes.
#[pyclass(frozen, module = "envmill._native")]
pub(crate) struct Blob {
    trajectory: Arc<Trajectory>,
    /// Which one; within the trajectory's.
    index: usize,
    /// Where its data is, if it is not in the trajectory.
    lent: Option<Lent>,
}

impl Blob {
    pub(crate) fn all<'a>(
        trajectory: &'a Arc<Trajectory>,
        lent: Option<&'a Lent>,
    ) -> impl Iterator<Item = (&'a str, Self)> {
        let blobs = trajectory.blobs.iter().enumerate();
        blobs.map(move |(index, blob)| {
            let lent = lent.cloned();
            (blob.name.as_str(), Self { trajectory: Arc::clone(trajectory), index, lent })
        })
    }

    fn kind(&self) -> ArrayKind {
        // A record has fewer blobs than that.
        ArrayKind::Blob(self.index as u32)
    }

    fn it(&self) -> &Attached {
        &self.trajectory.blobs[self.index]
    }
}

#[pymethods]
impl Blob {
    #[getter]
    fn name(&self) -> &str {
        &self.it().name
    }

    #[getter]
    fn dtype(&self) -> &str {
        &self.it().dtype
    }

    #[getter]
    fn shape<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, pyo3::types::PyTuple>> {
        pyo3::types::PyTuple::new(py, &self.it().shape)
    }

    #[getter]
    fn array<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let lent = self.lent.as_ref().map(|lent| lent.array(py, self.kind())).transpose()?;
        if let Some(array) = lent.flatten() {
            return Ok(array);
        }
        let Attached { dtype, shape, .. } = self.it();
        of_bytes(py, &self.trajectory, |it| &it.blobs[self.index].data, dtype, shape)
    }

    #[getter]
    fn data<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let lent = self.lent.as_ref().map(|lent| lent.bytes(self.kind())).transpose()?;
        Ok(PyBytes::new(py, lent.flatten().as_ref().unwrap_or(&self.it().data)))
    }

    fn __repr__(&self) -> String {
        let Attached { name, dtype, shape, .. } = self.it();
        format!("<envmill.Blob {name:?} of the type {dtype} and the shape {shape:?}>")
    }
}
