//! The lakes, and where each move leads.

use std::str::FromStr;

/// One of Gymnasium's two lakes. `S` is the start, `F` frozen, `H` a hole, `G` the goal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LakeMap {
    /// 4 × 4, episodes of at most 100 steps (`FrozenLake-v1`).
    #[default]
    Four,
    /// 8 × 8, episodes of at most 200 steps (`FrozenLake8x8-v1`).
    Eight,
}

impl LakeMap {
    /// The number of rows and of columns.
    #[must_use]
    pub const fn side(self) -> u8 {
        match self {
            Self::Four => 4,
            Self::Eight => 8,
        }
    }

    /// The letters, row by row.
    #[must_use]
    pub const fn letters(self) -> &'static [u8] {
        match self {
            Self::Four => b"SFFFFHFHFFFHHFFG",
            Self::Eight => b"SFFFFFFFFFFFFFFFFFFHFFFFFFFFFHFFFFFHFFFFFHHFFFHFFHFFHFHFFFFHFFFG",
        }
    }

    /// Steps after which an episode is truncated.
    #[must_use]
    pub const fn steps_max(self) -> u32 {
        match self {
            Self::Four => 100,
            Self::Eight => 200,
        }
    }

    /// Its name in Gymnasium.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Four => "4x4",
            Self::Eight => "8x8",
        }
    }

    /// The cell that a move in `direction` (0 left, 1 down, 2 right, 3 up) leads to: the border holds,
    /// and whoever is in a hole or at the goal stays.
    fn neighbour(self, cell: u8, direction: u8) -> u8 {
        let side = self.side();
        if matches!(self.letters().get(usize::from(cell)), Some(b'G' | b'H')) {
            return cell;
        }
        let (row, column) = (cell / side, cell % side);
        match direction {
            0 if column > 0 => cell - 1,
            1 if row + 1 < side => cell + side,
            2 if column + 1 < side => cell + 1,
            3 if row > 0 => cell - side,
            _ => cell,
        }
    }
}

impl FromStr for LakeMap {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        [Self::Four, Self::Eight].into_iter().find(|map| map.name() == name).ok_or(())
    }
}

/// The directions that a move may take, each with probability 1/3: Gymnasium's order. On a lake that
/// is not slippery all three are the same.
pub(super) const OUTCOMES: usize = 3;

/// The number of actions.
pub(super) const ACTIONS: usize = 4;

/// Where each of a move's outcomes leads, by cell, action and outcome.
#[derive(Clone, Debug)]
pub(super) struct Transitions(Vec<u8>);

impl Transitions {
    pub(super) fn new(map: LakeMap, slippery: bool) -> Self {
        let cells = map.side() * map.side();
        let mut table = Vec::with_capacity(usize::from(cells) * ACTIONS * OUTCOMES);
        for cell in 0..cells {
            for action in 0..ACTIONS as u8 {
                let directions = if slippery {
                    [(action + 3) % 4, action, (action + 1) % 4]
                } else {
                    [action; OUTCOMES]
                };
                table.extend(directions.map(|direction| map.neighbour(cell, direction)));
            }
        }
        Self(table)
    }

    #[inline]
    pub(super) fn get(&self, cell: u8, action: u8, outcome: usize) -> u8 {
        self.0[(usize::from(cell) * ACTIONS + usize::from(action)) * OUTCOMES + outcome]
    }
}
