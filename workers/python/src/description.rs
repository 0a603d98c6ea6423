//! What an environment says about itself.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::numbers::Numbers;

/// What an environment says about itself, asked once at the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Description {
    /// Its name, for the Task API and for people.
    pub name: String,
    /// The JSON Schema of an action: the text of one JSON object.
    pub action_schema: Bytes,
    /// The JSON Schema of an observation.
    pub observation_schema: Bytes,
    /// The JSON Schema of a reset's observation.
    pub reset_observation_schema: Bytes,
    /// The JSON Schema of the state.
    pub state_schema: Bytes,
    /// What `/metadata` would say, where it was asked for; empty otherwise.
    pub metadata: Bytes,
    /// Whether one process may hold several sessions.
    pub concurrent: bool,
    /// The versions of the packages that matter: the text of one JSON object.
    pub versions: Bytes,
}

#[derive(Deserialize)]
struct Wire<'a> {
    name: String,
    #[serde(borrow)]
    action: &'a RawValue,
    #[serde(borrow)]
    observation: &'a RawValue,
    #[serde(borrow)]
    reset_observation: &'a RawValue,
    #[serde(borrow)]
    state: &'a RawValue,
    #[serde(borrow, default)]
    metadata: Option<&'a RawValue>,
    concurrent: bool,
    #[serde(borrow)]
    versions: &'a RawValue,
    #[serde(default)]
    columns: Option<WireColumns>,
    #[serde(default)]
    steps_max: Option<u64>,
}

#[derive(Deserialize)]
struct WireColumns {
    action: Option<Numbers>,
    observation: Option<Numbers>,
}

/// What crosses as numbers, and what need not cross.
#[derive(Clone, Debug, Default)]
pub(crate) struct Columns {
    /// Whether answers have columns for rewards and ends.
    pub(crate) is_numeric: bool,
    pub(crate) action: Option<Numbers>,
    pub(crate) observation: Option<Numbers>,
    /// The most steps of an episode, where environments are told which step is the last.
    pub(crate) steps_max: Option<u64>,
}

impl Description {
    /// Reads what a worker process has written.
    pub(crate) fn read(text: &Bytes) -> Result<(Self, Columns), serde_json::Error> {
        let wire: Wire<'_> = serde_json::from_slice(text)?;
        let slice = |raw: &RawValue| text.slice_ref(raw.get().as_bytes());
        let columns = wire.columns.map_or_else(Columns::default, |columns| Columns {
            is_numeric: true,
            action: columns.action,
            observation: columns.observation,
            steps_max: wire.steps_max,
        });
        let description = Self {
            name: wire.name,
            action_schema: slice(wire.action),
            observation_schema: slice(wire.observation),
            reset_observation_schema: slice(wire.reset_observation),
            state_schema: slice(wire.state),
            metadata: wire.metadata.map(slice).unwrap_or_default(),
            concurrent: wire.concurrent,
            versions: slice(wire.versions),
        };
        Ok((description, columns))
    }
}
