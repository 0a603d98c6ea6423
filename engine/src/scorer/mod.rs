//! Rewards from outside: who says what an episode was worth, where its environment does not.
//!
//! Start at [`Scorer`], the seam that the driver hands played episodes to. What a configuration says of a
//! scorer is [`ScorerOptions`]; [`ScorerPools`] starts the scorers of a configuration: each has a queue
//! (`pool.rs`) and threads that take batches from it, ask somebody (`http.rs`, `engine/src/callable`), try again
//! what failed (`attempts.rs`) and read the answer (`answer.rs`). The scorers of one job are a `JobScorer`
//! (`job.rs`), which puts together what each says of an episode (`verdict.rs`) and keeps the members of groups
//! for those that want to see them all at once, by [`WholeGroups`](envmill_core::WholeGroups); those of a run
//! are `RunScorers` (`run.rs`), which also counts what they say. The form of
//! batches and answers is in `docs/service.md`.
//!
//! Deliberately absent: rewards. They are computed by whatever library the user has.

mod answer;
mod attempts;
mod http;
mod job;
mod options;
mod pool;
mod run;
mod seam;
mod table;
mod verdict;

pub(crate) use job::JobScorer;
pub(crate) use options::scoring;
pub use options::{HttpSource, ScorerOptions, Source};
pub(crate) use pool::Pool;
pub use pool::{ScorerError, ScorerPools};
pub(crate) use run::RunScorers;
pub use seam::Scorer;
pub(crate) use table::{KEYS, Table};
pub(crate) use verdict::Item;
