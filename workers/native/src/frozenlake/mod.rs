//! Gymnasium's FrozenLake-v1.

mod edge;
mod environment;
mod map;

pub use environment::{FrozenLake, FrozenLakeOptions};
pub use map::LakeMap;
