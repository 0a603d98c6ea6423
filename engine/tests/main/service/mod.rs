//! The rollout service as a trainer meets it: real processes on both sides.

mod audits;
mod earlier_stores;
mod figures;
mod harnesses;
mod kills;
mod memory;
mod policies;
pub(crate) mod rig;
pub(crate) mod scorers;
mod tasks;
mod traces;
mod trainers;
pub(crate) mod upstream;
