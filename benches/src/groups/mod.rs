//! How groups of heavy-tailed episodes are brought to a trainer: our scheduler beside lock-step
//! batches, a first-in-first-out stream and a bound that nobody beats, in virtual time.
//!
//! All play the same episodes: how long each step of each takes is drawn beforehand.

mod bound;
mod ours;
mod peers;
mod plot;
mod trainer;
mod workload;

pub use bound::{Bound, bound};
pub use ours::{Cut, ours};
pub use peers::{first_in_first_out, lock_step};
pub use plot::{Panel, draw};
pub use trainer::{Delivered, Group, Played, Span, deliver};
pub use workload::{Episode, Tail, Workload};
