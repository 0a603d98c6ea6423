//! The rollout service: trainers drive it over gRPC, and nothing is lost.
//!
//! [`Opened::open`] takes the journal, [`Opened::start`] goes on with what is in it, and
//! [`Running::serve`] answers calls. What trainers may say is `protocol/proto`. Inside, one thread
//! (the *hub*) owns what is known of jobs and what is owed of them ([`envmill_delivery::Delivery`]); streams, players and the
//! journal reach it by messages. [`Player`] is the seam to whoever plays the jobs of an environment, and
//! [`Desk`] where the turns of a job meet a trainer that is its policy, past the hub.
//!
//! Deliberately absent: environments, and decisions on who plays what and when (the core's) and on what
//! is sent and kept (the delivery's).

mod audit;
mod begun;
mod desk;
mod ear;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod hub;
mod ledger;
mod metrics;
mod options;
mod outflow;
mod player;
mod refusal;
mod request;
mod rings;
mod sampling;
mod server;
mod service;
mod step_batch;
mod tasks;
mod tokens;

pub use audit::{Audit, AuditError, audit};
pub use desk::Desk;
pub use ear::Ear;
pub use options::{ServiceOptions, StartError};
pub use player::{Environment, JobPolicy, Order, Played, Player, Snapshot, Weights};
pub use server::{Certificate, Drain, Opened, Running};
pub use tokens::Tokens;
