//! The part of Envmill that decides: it owns every episode from request to record.
//!
//! Start at [`Core`]: inputs and the time go in through [`Core::handle`] and [`Core::settle`], and
//! [`Outputs`] come out. The episode's life is one table in `state.rs`; how many sessions a server
//! gets is decided in `admission.rs`.
//!
//! Deliberately absent: sockets, threads, clocks and random numbers from outside. The same inputs
//! at the same times give the same outputs, so that a test can play a hundred thousand sessions in
//! virtual time, and a recorded run can be played again.

mod admission;
mod api;
mod core;
mod counts;
mod episode;
mod episode_set;
mod job;
mod options;
mod random;
mod schedule;
mod session;
mod state;
mod tasks;
mod time;
mod timers;

pub use crate::core::Core;
pub use admission::{AdmissionOptions, AdmissionStatus};
pub use api::{External, ExternalTurn, Input, Latency, Note, Outputs};
pub use counts::Counts;
pub use episode_set::EpisodeSet;
pub use job::episode_of;
pub use options::{
    Deadlines, Driver, FingerprintChange, JobOptions, Options, OptionsError, ServerOptions,
    SessionReuse,
};
pub use state::{State, TRANSITIONS, Transition, Trigger};
pub use tasks::{Task, Tasks};
pub use time::Time;
