//! Who decides on actions.
//!
//! Start at [`Policy`], the seam. Built in are [`Random`] (valid actions from the environment's
//! schema) and [`Constant`] (always the same action).

mod constant;
mod random;
mod seam;
mod spec;

pub use constant::Constant;
pub use random::{Random, Sampler, SchemaError};
pub use seam::Policy;
pub use spec::{PolicySpec, PolicySpecError};
