//! Python environments in worker processes, stepped batch by batch through shared memory.
//!
//! Start at [`PythonWorker`]. Processes are forked by a *nursery*, a Python process that has imported
//! the environment and runs none; each worker process holds many sessions and exchanges batches with
//! this one over two rings (`envmill_ring`). What a worker process answers are the frames that OpenEnv's
//! `/ws` would send, so that a record is the same whichever way an environment was stepped. The Python
//! side is `runtime/`; it is part of this crate and reaches the processes through a descriptor.
//!
//! Deliberately absent: deadlines (a step that takes too long is closed by the core; what does not let
//! go of it then is killed here), and anything installed next to the environments.

mod bundle;
mod description;
mod error;
mod infos;
mod memory;
mod numbers;
mod nursery;
mod options;
mod process;
mod sessions;
mod worker;

pub use description::Description;
pub use error::Error;
pub use memory::machine_memory;
pub use options::{Gymnasium, Log, OpenEnvClass, Options, Placement, Start, Target, Threads};
pub use worker::{Metrics, PythonWorker};
