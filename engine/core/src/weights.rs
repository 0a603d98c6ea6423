//! How often a task is played.

use crate::random::mixed;

/// So many make a weight of 1.
const ONE: u32 = 1_000_000;
/// The largest weight.
const MAX: f64 = 1000.0;

/// How often a task is played in a round: 0 to 1,000, in millionths, so that ten times 0.1 is 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Weight(u32);

/// A number that is no weight.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error(
    "a weight of {0}: it must be 0, which leaves the task out, or a number from 0.000001 to 1000"
)]
pub struct WeightError(pub f64);

impl Weight {
    /// The task is left out.
    pub const ZERO: Self = Self(0);
    /// Once a round.
    pub const ONE: Self = Self(ONE);

    /// A weight.
    ///
    /// # Errors
    ///
    /// It is negative, too large, too small without being 0, or no number.
    pub fn new(weight: f64) -> Result<Self, WeightError> {
        let millionths = (weight * f64::from(ONE)).round();
        let is_one = (0.0..=MAX).contains(&weight) && (weight == 0.0 || millionths >= 1.0);
        // At most a thousand times `ONE`, which fits.
        if is_one { Ok(Self(millionths as u32)) } else { Err(WeightError(weight)) }
    }

    /// So many millionths; `None` if that is too large for a weight.
    #[must_use]
    pub fn from_millionths(millionths: u32) -> Option<Self> {
        (f64::from(millionths) <= MAX * f64::from(ONE)).then_some(Self(millionths))
    }

    /// In millionths.
    #[must_use]
    pub const fn millionths(self) -> u32 {
        self.0
    }

    /// As a number.
    #[must_use]
    pub fn as_f64(self) -> f64 {
        f64::from(self.0) / f64::from(ONE)
    }

    /// What a task with this place in its set has in hand before the first round, in millionths of a
    /// play: else all tasks of a weight below 1 would come in the same round.
    pub(crate) const fn head_start(seed: u64, task: usize) -> u32 {
        (mixed(seed ^ 0xA076_1D64_78BD_642F, task as u64) % ONE as u64) as u32
    }

    /// How often the task is played in the first `rounds` rounds together.
    pub(crate) fn plays(self, seed: u64, task: usize, rounds: u64) -> Option<u64> {
        let all = rounds.checked_mul(self.0.into())?;
        Some(all.checked_add(Self::head_start(seed, task).into())? / u64::from(ONE))
    }
}

impl Default for Weight {
    fn default() -> Self {
        Self::ONE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_weight_is_refused() {
        for weight in [-1.0, -1e-9, 1e-9, 1000.5, f64::NAN, f64::INFINITY] {
            assert!(Weight::new(weight).is_err(), "{weight}");
        }
        for weight in [0.0, 0.1, 1.0, 1000.0, 1e-6] {
            let read = Weight::new(weight).unwrap().as_f64();
            assert_eq!(read.to_bits(), weight.to_bits());
        }
        assert_eq!(Weight::new(-0.0), Ok(Weight::ZERO));
    }

    #[test]
    fn a_weight_is_honoured_in_any_rounds_that_follow_one_another() {
        for (weight, task) in [(0.1, 0), (0.5, 1), (1.0, 2), (1.3, 3), (7.0, 4), (0.3333, 5)] {
            let it = Weight::new(weight).unwrap();
            let upto = |rounds| it.plays(9, task, rounds).unwrap();
            for first in 0..40 {
                for rounds in 0..40 {
                    let plays = (upto(first + rounds) - upto(first)) as f64;
                    assert!(
                        (plays - rounds as f64 * weight).abs() < 1.0,
                        "{weight} {first} {rounds}"
                    );
                }
            }
        }
    }
}
