//! The part of Envmill that decides: it owns every episode from request to record.
//!
//! Start at [`Core`]: inputs and the time go in through [`Core::handle`] and [`Core::settle`], and
//! [`Outputs`] come out. The episode's life is one table in `state.rs`; how many sessions a server
//! gets is decided in `admission.rs`, which task a group plays in `rounds.rs`.
//!
//! Deliberately absent: sockets, threads, clocks and random numbers from outside. The same inputs
//! at the same times give the same outputs, so that a test can play a hundred thousand sessions in
//! virtual time, and a recorded run can be played again.

mod admission;
mod alarms;
mod api;
mod budget;
mod core;
mod counts;
mod ejection;
mod ending;
mod episode;
mod episode_set;
mod events;
mod failing;
mod fairness;
mod group_end;
mod groups;
mod holding;
mod job;
mod job_status;
mod limits;
mod members;
mod memory;
mod options;
mod pausing;
mod placement;
mod poison;
mod random;
mod recorded_groups;
mod retiring;
mod retrying;
mod rounds;
mod sampling;
mod schedule;
mod scoring;
mod session;
mod slots;
mod staleness;
mod state;
mod stragglers;
mod task_statistics;
mod tasks;
mod time;
mod timers;
mod turns;
mod versions;
mod weights;
mod whole_groups;

pub use crate::core::Core;
pub use admission::{Admission, AdmissionOptions, AdmissionStatus, Room, Standing};
pub use api::{
    External, ExternalTurn, InFlight, Input, Latency, Note, Outlier, Outputs, Score, ScoreTicket,
    Scored, ToScore,
};
pub use counts::Counts;
pub use episode_set::EpisodeSet;
pub use job::episode_of;
pub use job_status::JobStatus;
pub use memory::MemoryStatus;
pub use options::{
    Deadlines, Driver, EjectionOptions, FingerprintChange, GroupFilter, GroupOptions,
    GroupPlacement, JobOptions, OnEnvironmentError, Options, OptionsError, RetryBudget, Scoring,
    ServerOptions, SessionReuse,
};
pub use random::Random;
pub use recorded_groups::{RecordedGroups, recorded_member};
pub use rounds::Round;
pub use sampling::{Revisit, Sampler, SamplerState, TaskRecord, has_variance};
pub use state::{State, TRANSITIONS, Transition, Trigger};
pub use task_statistics::{StatisticsByTask, TaskStatistics};
pub use tasks::{Task, Tasks};
pub use time::Time;
pub use weights::{Weight, WeightError};
pub use whole_groups::{GroupPlan, WholeGroups};
