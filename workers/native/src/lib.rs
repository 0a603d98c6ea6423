//! Native environments: state in columns, stepped in ranges, reachable as sessions.
//!
//! Start at [`BatchEnv`] (what an environment is: a `step_range` over columns), then [`JsonEdge`]
//! (how its actions and observations look as JSON) and [`NativeWorker`] (a column pool mounted as
//! sessions behind the worker seam). [`environment`] makes one by name.
//!
//! Deliberately absent: the OpenEnv protocol (that is `envmill-front`), threads (ranges run inline;
//! whoever owns the columns may split them), and automatic resets in the session plane: a session
//! that steps past an episode's end gets what the environment answers then.

mod batch;
mod cartpole;
mod echo;
mod frozenlake;
mod invalid;
mod json;
mod pool;
mod random;
mod registry;
mod schema;
mod signal;
mod synthetic;
mod timers;
mod wordguess;
mod worker;

pub use batch::{BatchEnv, Columns, JsonEdge, Moment, Reset};
pub use cartpole::CartPole;
pub use echo::Echo;
pub use frozenlake::{FrozenLake, FrozenLakeOptions, LakeMap};
pub use invalid::{FieldError, Invalid};
pub use registry::{
    About, ENVIRONMENTS, Environment, EnvironmentError, Parameter, Parameters, environment,
};
pub use schema::Schemas;
pub use synthetic::{Synthetic, SyntheticOptions};
pub use wordguess::{WordGuess, WordGuessOptions};
pub use worker::NativeWorker;
