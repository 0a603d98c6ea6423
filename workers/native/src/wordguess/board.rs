//! One game: the answer, the guesses, and what they were told.

use super::words::{LETTERS, Word, is_listed};

/// The most guesses.
pub(super) const GUESSES_MAX: usize = 6;

/// What a guess is told about each of its letters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Mark {
    /// The answer has no (further) such letter.
    #[default]
    Absent,
    /// The answer has it elsewhere.
    Elsewhere,
    /// It stands where it should.
    Placed,
}

/// The marks of `guess`. A letter is marked as often as the answer has it, places first.
pub(super) fn marks(guess: &Word, answer: &Word) -> [Mark; LETTERS] {
    let mut marks = [Mark::Absent; LETTERS];
    let mut left = [0u8; 256];
    for (i, (guessed, right)) in guess.iter().zip(answer).enumerate() {
        if guessed == right {
            marks[i] = Mark::Placed;
        } else {
            left[usize::from(*right)] += 1;
        }
    }
    for (mark, guessed) in marks.iter_mut().zip(guess) {
        let left = &mut left[usize::from(*guessed)];
        if *mark == Mark::Absent && *left > 0 {
            *left -= 1;
            *mark = Mark::Elsewhere;
        }
    }
    marks
}

/// A guess as it stands on the board.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Line {
    pub(super) guess: Word,
    /// `None` for a word that is not on the list, which is told nothing.
    pub(super) marks: Option<[Mark; LETTERS]>,
}

/// One game.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Board {
    pub(super) answer: Word,
    lines: [Line; GUESSES_MAX],
    guesses: usize,
    /// The places that some guess has found.
    placed: [bool; LETTERS],
}

/// Hundredths, so that sums are exact and rewards read well.
const PLACE_EARNS: i32 = 5;
const SOLVED_EARNS: i32 = 50;
const GUESS_LEFT_EARNS: i32 = 5;
const UNLISTED_EARNS: i32 = -10;

impl Board {
    pub(super) fn new(answer: Word) -> Self {
        Self { answer, ..Self::default() }
    }

    /// The guesses so far.
    pub(super) fn lines(&self) -> &[Line] {
        &self.lines[..self.guesses]
    }

    pub(super) const fn guesses_left(&self) -> usize {
        GUESSES_MAX - self.guesses
    }

    pub(super) fn is_solved(&self) -> bool {
        self.lines().last().is_some_and(|line| line.guess == self.answer)
    }

    pub(super) fn is_over(&self) -> bool {
        self.guesses_left() == 0 || self.is_solved()
    }

    /// Takes a guess and returns the reward. After the end nothing changes and nothing is earned.
    pub(super) fn guess(&mut self, guess: &Word) -> f64 {
        if self.is_over() {
            return 0.0;
        }
        let marks = is_listed(guess).then(|| marks(guess, &self.answer));
        self.lines[self.guesses] = Line { guess: *guess, marks };
        self.guesses += 1;
        let Some(marks) = marks else { return f64::from(UNLISTED_EARNS) / 100.0 };
        let mut earned = 0;
        for (placed, mark) in self.placed.iter_mut().zip(marks) {
            if mark == Mark::Placed && !*placed {
                *placed = true;
                earned += PLACE_EARNS;
            }
        }
        if self.is_solved() {
            earned += SOLVED_EARNS + GUESS_LEFT_EARNS * self.guesses_left() as i32;
        }
        f64::from(earned) / 100.0
    }

    /// Whether `word` may be the answer for all that the guesses have told.
    pub(super) fn allows(&self, word: &Word) -> bool {
        self.lines()
            .iter()
            .all(|line| line.marks.is_none_or(|told| marks(&line.guess, word) == told))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(guess: &Word, answer: &Word) -> String {
        marks(guess, answer)
            .map(|mark| match mark {
                Mark::Absent => '-',
                Mark::Elsewhere => 'y',
                Mark::Placed => 'G',
            })
            .iter()
            .collect()
    }

    #[test]
    fn a_letter_is_marked_as_often_as_the_answer_has_it() {
        assert_eq!(told(b"crane", b"crane"), "GGGGG");
        assert_eq!(told(b"eagle", b"bench"), "y----");
        assert_eq!(told(b"eerie", b"bench"), "-G---");
        assert_eq!(told(b"green", b"eager"), "yyy".to_owned() + "G-");
        assert_eq!(told(b"allow", b"label"), "yyy--");
        assert_eq!(told(b"label", b"allow"), "yy--y");
    }

    #[test]
    fn the_best_game_earns_one_and_the_worst_loses_six_tenths() {
        let mut best = Board::new(*b"crane");
        assert!((best.guess(b"crane") - 1.0).abs() < 1e-12);
        assert!(best.is_solved() && best.is_over());
        assert!(best.guess(b"crane").abs() < 1e-12);
        let mut worst = Board::new(*b"crane");
        let sum: f64 = (0..8).map(|_| worst.guess(b"zzzzz")).sum();
        assert!((sum + 0.6).abs() < 1e-12);
        assert!(worst.is_over() && !worst.is_solved());
    }

    #[test]
    fn the_answer_is_always_allowed() {
        let mut board = Board::new(*b"crane");
        for guess in [b"grain", b"zzzzz", b"brave"] {
            board.guess(guess);
            assert!(board.allows(b"crane"));
            assert!(!board.allows(b"brave") || guess != b"brave");
        }
        assert!(!board.allows(b"apple"));
    }
}
