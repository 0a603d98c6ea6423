//! The rollout engine: it plays episodes and keeps their trajectories.
//!
//! Start at [`run()`](run::run), which plays a job from its [`config::RunOptions`] to its
//! [`report::Summary`]. Its parts: the [`driver`] (the loop around the core and a worker), the
//! [`policy`] seam (who decides on actions), the [`model`] that is one of
//! them (agents around a language model), the [`scorer`] seam (who says what episodes were worth), the
//! [`sink`] seam (where records go), [`children`]
//! (servers that a run starts), the [`gateway`] (a pool of servers behind one URL), [`mod@bench`] (how fast an
//! environment is), [`inspect`] (recordings that are looked into), and [`command`] (the `envmill` command).
//!
//! Deliberately absent: decisions on who plays what and when, which are the core's
//! (`envmill-core`), and sockets, which are the workers'.

pub mod bench;
mod callable;
pub mod children;
pub mod command;
pub mod config;
pub mod driver;
mod fingerprints;
pub mod fleet;
mod flight;
pub mod gateway;
mod harness;
pub mod inspect;
pub mod model;
pub mod policy;
pub mod progress;
pub mod replay;
pub mod report;
mod resume;
pub mod run;
mod sampled;
pub mod scorer;
mod secret;
pub mod serve;
pub mod sink;
pub mod tasks;
