//! Rewards from outside: who says what an episode was worth, where its environment does not.
//!
//! Start at [`Scorer`], the seam that the driver hands played episodes to. What a configuration says of a
//! scorer is [`ScorerOptions`]; [`ScorerPools`] starts the scorers of a configuration: each has a queue
//! (`pool.rs`) and threads that take batches from it, ask somebody (`http.rs`, `engine/src/callable`), try again
//! what failed (`attempts.rs`) and read the answer (`answer.rs`). Members of groups are kept
//! for scorers that want to see them all at once by [`WholeGroups`](envmill_core::WholeGroups). The form of batches and answers is in
//! `docs/service.md`.
//!
//! Deliberately absent: rewards. They are computed by whatever library the user has.

mod answer;
mod attempts;
mod http;
mod options;
mod pool;
mod seam;

pub use options::{HttpSource, ScorerOptions, Source};
pub(crate) use options::{KEYS, Table};
pub(crate) use pool::{Item, Pool};
pub use pool::{ScorerError, ScorerPools};
pub use seam::Scorer;
