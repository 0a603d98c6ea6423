//! Arrays of a record in memory that is shared with the engine.

use std::sync::Arc;

use bytes::Bytes;
use envmill_client::{
    InPlace,
    wire::{self, layout::ArrayKind},
};
use envmill_protocol::Trajectory;
use pyo3::prelude::*;

use crate::{
    array::{self, Memory},
    errors::client_error,
    runtime::{Owned, Words},
};

const WORDS: Words = Words {
    name: "record",
    instead: "its arrays are in memory that is given back there; copy the record before the fork",
};

/// What a record has left in shared memory. It is given back with the last clone, by the process that got
/// it: the engine counts on one.
#[derive(Clone)]
pub(crate) struct Lent(Arc<Owned<InPlace>>);

impl Lent {
    pub(crate) fn new(in_place: InPlace) -> Self {
        Self(Arc::new(Owned::new(in_place, &WORDS)))
    }

    /// The array of this kind, if the record left it there.
    pub(crate) fn array<'py>(
        &self,
        py: Python<'py>,
        kind: ArrayKind,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let in_place = self.0.get()?;
        let Some(array) = in_place.arrays().iter().find(|array| array.kind == kind) else {
            return Ok(None);
        };
        let Some(address) = in_place.address(array) else { return Ok(None) };
        let memory = Memory { address, bytes: array.range.len(), keep: Box::new(self.clone()) };
        array::of_memory(py, memory, &array.dtype, &array.shape).map(Some)
    }

    /// A copy of the array's bytes.
    pub(crate) fn bytes(&self, kind: ArrayKind) -> PyResult<Option<Bytes>> {
        let in_place = self.0.get()?;
        let array = in_place.arrays().iter().find(|array| array.kind == kind);
        Ok(array.and_then(|array| in_place.bytes(array)))
    }

    /// A copy of the whole record.
    pub(crate) fn whole(&self) -> PyResult<Trajectory> {
        let whole = self.0.get()?.whole().map_err(client_error)?;
        wire::read_trajectory(whole)
            .map_err(|problem| client_error(envmill_client::Error::Nonsense(problem)))
    }
}
