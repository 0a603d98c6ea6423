//! Measures how fast an environment is.
//!
//! Start at [`report::Report`], which is everything that a benchmark has found. A point of it, one number of
//! sessions, is measured by a [`Load`], one thread around a worker; which points follow is the [`Sweep`]'s word;
//! what they come to is said by [`knee`], [`largest`] and [`bottleneck`], which are functions of the
//! points, and [`page::render`] makes a page of it all. [`processes`] and [`Watch`] read what processes cost from `/proc`, and [`peer`] runs the stock
//! Python client on the same target.
//!
//! Deliberately absent: how targets are started and spoken with (the engine's fleet and the workers'), and
//! retries: what fails has failed, and is counted.

mod bottleneck;
pub mod compare;
mod distribution;
mod knee;
mod largest;
mod load;
mod machine;
mod meter;
mod opening;
pub mod page;
pub mod peer;
mod plan;
pub mod processes;
pub mod report;
mod round;
mod schedule;
mod session;
mod sweep;
pub mod table;
mod watch;

pub use bottleneck::{About, bottleneck};
pub use knee::knee;
pub use largest::{largest, success};
pub use load::{Load, LoadError, Look, Measured, Outcome};
pub use machine::machine;
pub use plan::{Actions, Deadlines, Plan};
pub use schedule::Arrivals;
pub use sweep::{Sweep, SweepOptions, session_cap};
pub use watch::Watch;
