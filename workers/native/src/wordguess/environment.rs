//! The game as columns.

use std::ops::Range;

use super::{
    board::Board,
    words::{self, Word},
};
use crate::{BatchEnv, Columns, Reset, random};

/// How the game is played.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WordGuessOptions {
    /// Whether each observation lists, as `legal_actions`, the words that may still be the answer.
    /// Default off: finding them is the game.
    pub hints: bool,
}

/// Guess a five-letter word in six tries. After each guess, every letter is marked as placed, as
/// standing elsewhere, or as absent. The observation is text that grows with each guess.
///
/// A place found for the first time earns 0.05; the answer earns 0.5 more, and 0.05 for each guess
/// left; a word that is not on the list spends a guess, is told nothing and loses 0.1. So an episode
/// earns from -0.6 to 1. It terminates with the answer or the sixth guess; beyond that nothing changes.
/// A seed fixes the answer, and so does the reset parameter `answer`.
#[derive(Debug, Default)]
pub struct WordGuess {
    pub(super) options: WordGuessOptions,
    pub(super) boards: Vec<Board>,
    random: Vec<u64>,
}

impl WordGuess {
    /// A game without rows.
    #[must_use]
    pub const fn new(options: WordGuessOptions) -> Self {
        Self { options, boards: Vec::new(), random: Vec::new() }
    }

    fn begin(&mut self, row: usize, reset: &Reset<Option<Word>>) {
        let mut random = reset.seed.map_or(self.random[row], random::seeded);
        let number = (random::unit(&mut random) * words::COUNT as f64) as usize;
        self.boards[row] = Board::new(reset.start.unwrap_or_else(|| words::word(number)));
        self.random[row] = random;
    }
}

impl BatchEnv for WordGuess {
    /// The guess, in lower-case ASCII.
    type Action = Word;
    /// The answer.
    type Start = Option<Word>;
    type Element = u8;

    const OBSERVATION_WIDTH: usize = 0;

    fn rows(&self) -> usize {
        self.boards.len()
    }

    fn resize(&mut self, rows: usize) {
        let old = self.rows();
        self.boards.resize(rows, Board::default());
        self.random.resize(rows, 0);
        for row in old..rows {
            self.begin(row, &Reset { seed: Some(row as u64), start: None });
        }
    }

    fn reset_range(
        &mut self,
        rows: Range<usize>,
        which: &[u8],
        resets: &[Reset<Option<Word>>],
        _observations: &mut [u8],
    ) {
        for (i, row) in rows.enumerate() {
            if which[i] != 0 {
                self.begin(row, &resets[i]);
            }
        }
    }

    fn step_range(&mut self, rows: Range<usize>, actions: &[Word], out: &mut Columns<'_, u8>) {
        for (i, row) in rows.enumerate() {
            let board = &mut self.boards[row];
            out.rewards[i] = board.guess(&actions[i]);
            out.terminated[i] = u8::from(board.is_over());
        }
        out.truncated.fill(0);
        out.failed.fill(0);
        out.delays_ns.fill(0);
    }
}
