//! FrozenLake as columns.

use std::ops::Range;

use super::map::{LakeMap, OUTCOMES, Transitions};
use crate::{BatchEnv, Columns, Reset, random};

/// Which lake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrozenLakeOptions {
    /// The map.
    pub map: LakeMap,
    /// Whether a move goes where it was meant with probability 1/3 only, and to either side of that
    /// with 1/3 each. Gymnasium's default.
    pub slippery: bool,
}

impl Default for FrozenLakeOptions {
    fn default() -> Self {
        Self { map: LakeMap::default(), slippery: true }
    }
}

/// Gymnasium's FrozenLake-v1: cross a lake without falling into a hole.
///
/// The observation is the cell, row × side + column, as one `u8`; every episode starts in cell 0.
/// Reaching the goal earns 1 and ends the episode, a hole earns 0 and ends it, everything else earns 0.
/// The episode is truncated at 100 steps (4 × 4) or 200 (8 × 8). Beyond an end nothing moves.
///
/// The probabilities are Gymnasium's; the draws are SplitMix64's, one a step, so a seed does not slip
/// as it would in Gymnasium.
#[derive(Debug)]
pub struct FrozenLake {
    pub(super) options: FrozenLakeOptions,
    transitions: Transitions,
    pub(super) cells: Vec<u8>,
    steps: Vec<u32>,
    random: Vec<u64>,
}

impl FrozenLake {
    /// A lake without rows.
    #[must_use]
    pub fn new(options: FrozenLakeOptions) -> Self {
        Self {
            options,
            transitions: Transitions::new(options.map, options.slippery),
            cells: Vec::new(),
            steps: Vec::new(),
            random: Vec::new(),
        }
    }

    /// The number of cells.
    pub(super) const fn cells_count(&self) -> u8 {
        self.options.map.side() * self.options.map.side()
    }

    fn begin(&mut self, row: usize, reset: &Reset<Option<u8>>) {
        self.random[row] = reset.seed.map_or(self.random[row], random::seeded);
        // Whoever lends columns may write anything into them: no cell lies beyond the lake.
        self.cells[row] = reset.start.unwrap_or(0).min(self.cells_count() - 1);
        self.steps[row] = 0;
    }
}

impl Default for FrozenLake {
    fn default() -> Self {
        Self::new(FrozenLakeOptions::default())
    }
}

impl BatchEnv for FrozenLake {
    /// 0 left, 1 down, 2 right, 3 up; of larger numbers the two low bits count.
    type Action = u8;
    /// The cell to start in.
    type Start = Option<u8>;
    type Element = u8;

    const OBSERVATION_WIDTH: usize = 1;

    fn rows(&self) -> usize {
        self.cells.len()
    }

    fn resize(&mut self, rows: usize) {
        let old = self.rows();
        self.cells.resize(rows, 0);
        self.steps.resize(rows, 0);
        self.random.resize(rows, 0);
        for row in old..rows {
            self.begin(row, &Reset { seed: Some(row as u64), start: None });
        }
    }

    fn reset_range(
        &mut self,
        rows: Range<usize>,
        which: &[u8],
        resets: &[Reset<Option<u8>>],
        observations: &mut [u8],
    ) {
        for (i, row) in rows.enumerate() {
            if which[i] != 0 {
                self.begin(row, &resets[i]);
                observations[i] = self.cells[row];
            }
        }
    }

    fn step_range(&mut self, rows: Range<usize>, actions: &[u8], out: &mut Columns<'_, u8>) {
        let letters = self.options.map.letters();
        let steps_max = self.options.map.steps_max();
        for (i, row) in rows.enumerate() {
            let before = self.cells[row];
            let draw = random::unit(&mut self.random[row]);
            let outcome = ((draw * OUTCOMES as f64) as usize).min(OUTCOMES - 1);
            let after = self.transitions.get(before, actions[i] & 3, outcome);
            let letter = letters[usize::from(after)];
            let arrived = letter == b'G' && before != after;
            self.cells[row] = after;
            self.steps[row] = self.steps[row].saturating_add(1);
            out.observations[i] = after;
            out.rewards[i] = f64::from(u8::from(arrived));
            out.terminated[i] = u8::from(matches!(letter, b'G' | b'H'));
            out.truncated[i] = u8::from(self.steps[row] >= steps_max);
        }
        out.failed.fill(0);
        out.delays_ns.fill(0);
    }
}
