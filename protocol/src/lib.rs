//! What crosses a boundary in Envmill, as plain data: commands and events of the worker seam, turns
//! and decisions of the policy seam, the trajectory record, and the OpenEnv codec.
//!
//! Start at [`Command`] and [`Event`] (what a worker is told and what it answers), then
//! [`Trajectory`] (what every requested episode becomes).
//!
//! Deliberately absent: sockets, files, clocks, threads. Everything here can be built, compared and
//! serialised in a test without a runtime.

mod command;
mod event;
mod failure;
mod ids;
mod json_text;
mod numbers;
mod observation;
mod observed;
pub mod openenv;
mod policy;
pub mod record;
mod reset_parameters;

pub use command::{Command, Request};
pub use event::{Event, Outcome};
pub use failure::{Failure, Kind as FailureKind, MESSAGE_BYTES_MAX, Phase, Retry, SessionFate};
pub use ids::{EpisodeIndex, Generation, JobId, PolicyVersion, ServerId, Slot};
pub use numbers::{DType, Numbers};
pub use observation::Observation;
pub use observed::{Ended, Observed, Reward};
pub use policy::{
    Decision, EpisodeStart, Generated, GeneratedKind, PolicyError, Spoken, Turn, VersionSpan,
};
pub use record::Trajectory;
pub use reset_parameters::ResetParameters;
