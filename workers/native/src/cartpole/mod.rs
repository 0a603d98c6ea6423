//! Gymnasium's CartPole-v1.

mod edge;
mod environment;
mod physics;
mod trigonometry;

pub use environment::CartPole;
