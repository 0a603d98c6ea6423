//! A TCP proxy that does on purpose what bad networks do by chance.

mod fault;
mod frames;
mod handle;
mod line;
mod relay;

pub use fault::{Effect, Fault, FrameEffect, Frames, HttpAnswer, Plan, Point};
pub use handle::{Counts, FaultProxy};
