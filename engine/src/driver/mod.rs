//! The loop that carries a run: one thread, one core, one worker.
//!
//! Start at [`Driver`]. [`Control`] is how the world outside reaches it (signals, restarted servers);
//! [`Meter`] measures what it does.

mod control;
mod meter;
mod turn;

pub use control::Control;
pub(crate) use control::Errand;
pub(crate) use meter::cpu;
pub use meter::{Meter, Steady};
pub use turn::{Driver, Finished, Look};
