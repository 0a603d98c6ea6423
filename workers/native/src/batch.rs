//! What a native environment is: many rows of state, stepped a range at a time.

use std::ops::Range;

use crate::{Invalid, Schemas};

/// Many instances of one environment, kept as columns (structure of arrays).
///
/// A *row* is one instance. The environment owns its state; the caller owns the columns that go in
/// (actions, resets) and come out ([`Columns`]) and lends them for one call. All lent slices have
/// exactly `rows.len()` elements (observations: times [`OBSERVATION_WIDTH`](Self::OBSERVATION_WIDTH)),
/// element `i` belonging to row `rows.start + i`. They may be memory of another language.
///
/// `step_range` is the hot path of two planes, sessions and vector environments: it neither
/// allocates nor parses, does not dispatch on kinds of environment, and never resets a row; a
/// caller that wants automatic resets makes a second pass with `reset_range` and the ended rows as
/// its mask.
pub trait BatchEnv: Send {
    /// One row's action in its column. `Default` is a valid action.
    type Action: Clone + Default + Send;
    /// What a reset can fix beyond the seed. `Default` fixes nothing.
    type Start: Clone + Default + Send;
    /// One number of an observation.
    type Element: Copy + Default + Send;

    /// How many numbers an observation has; 0 where it is not numeric (then only
    /// [`JsonEdge::write_observation`] shows it).
    const OBSERVATION_WIDTH: usize;

    /// How many rows there are.
    fn rows(&self) -> usize;

    /// Grows or shrinks to `rows` rows. New rows hold a freshly reset instance each.
    fn resize(&mut self, rows: usize);

    /// Begins an episode in every row of `rows` whose element of `which` is not 0, and writes the
    /// first observation of those rows, row-major.
    fn reset_range(
        &mut self,
        rows: Range<usize>,
        which: &[u8],
        resets: &[Reset<Self::Start>],
        observations: &mut [Self::Element],
    );

    /// Takes one step in every row of `rows`.
    fn step_range(
        &mut self,
        rows: Range<usize>,
        actions: &[Self::Action],
        out: &mut Columns<'_, Self::Element>,
    );
}

/// How an episode begins.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reset<S> {
    /// The seed; `None` draws on from the row's own generator.
    pub seed: Option<u64>,
    /// What else is fixed.
    pub start: S,
}

/// The columns that a step writes, lent by the caller for the range being stepped.
#[derive(Debug)]
pub struct Columns<'a, E> {
    /// Observations, shape `[rows, OBSERVATION_WIDTH]`, row-major.
    pub observations: &'a mut [E],
    /// Rewards, shape `[rows]`.
    pub rewards: &'a mut [f64],
    /// 1 where the episode reached an end of its own, shape `[rows]`.
    pub terminated: &'a mut [u8],
    /// 1 where a limit cut the episode, shape `[rows]`. Both flags may be set.
    pub truncated: &'a mut [u8],
    /// 1 where the step raised an error instead of yielding an observation, shape `[rows]`.
    pub failed: &'a mut [u8],
    /// Nanoseconds after which the answer is due, shape `[rows]`. The environment only says it; who
    /// serves the environment waits, without holding a thread.
    pub delays_ns: &'a mut [u64],
}

/// Which answer is being written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// A reset's.
    Reset,
    /// A step's.
    Step {
        /// Whether the episode is over.
        ended: bool,
        /// Whether a limit cut it.
        truncated: bool,
    },
}

/// How an environment's columns look as JSON, for sessions over a wire. Called once a row, outside
/// the hot loop.
pub trait JsonEdge: BatchEnv {
    /// Reads an action.
    ///
    /// # Errors
    ///
    /// With every field that is wrong, in pydantic's terms. The row is untouched.
    fn decode_action(&self, text: &[u8]) -> Result<Self::Action, Invalid>;

    /// Reads reset parameters (empty text: none). Keys that mean nothing here are ignored, as
    /// OpenEnv's servers do.
    ///
    /// # Errors
    ///
    /// With every field that is wrong, in pydantic's terms. The row is untouched.
    fn decode_reset(&self, text: &[u8]) -> Result<Reset<Self::Start>, Invalid>;

    /// Appends the members of the observation object, without braces and `metadata`.
    fn write_observation(
        &self,
        row: usize,
        observation: &[Self::Element],
        moment: Moment,
        out: &mut Vec<u8>,
    );

    /// Appends the members of the metadata object, without braces; nothing if there are none.
    fn write_metadata(&self, row: usize, moment: Moment, out: &mut Vec<u8>);

    /// The reward that a reset answers with; `None` is `null`.
    fn reset_reward(&self) -> Option<f64> {
        None
    }

    /// Appends members of the state object after `episode_id` and `step_count`, each with a leading
    /// comma.
    fn write_state(&self, row: usize, out: &mut Vec<u8>);

    /// What a step that raised an error says.
    fn failure(&self, row: usize) -> String {
        format!("the environment failed (row {row})")
    }

    /// The JSON Schemas of what crosses this edge.
    fn schemas(&self) -> Schemas;
}
