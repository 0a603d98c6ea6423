//! Several replicas of a model, used as one.

mod control;
mod options;
mod play;
mod replicas;
mod seats;
mod watch;

pub use options::PoolOptions;
pub use replicas::{Pool, PoolStatus};
pub use seats::{ReplicaStatus, Standing};
