//! The policy's own random numbers.

/// SplitMix64: eight bytes of state, a few nanoseconds a number, and any two starting points give
/// unrelated streams, which is all that drawing actions needs.
#[derive(Clone, Debug)]
pub(super) struct Rng(u64);

impl Rng {
    /// The stream of one turn. The same seed and step give the same numbers, for ever: recorded
    /// runs depend on it.
    pub(super) fn for_turn(seed: u64, step: u32) -> Self {
        Self(mix(seed ^ 0x656e_766d_696c_6c21) ^ mix(u64::from(step).wrapping_mul(GOLDEN)))
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GOLDEN);
        mix(self.0)
    }

    /// Uniform in `0..bound`; 0 if the bound is 0.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        // The high half of the product: its bias is at most bound / 2^64.
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    /// Uniform among the positions of a list that is not empty.
    pub(super) fn index(&mut self, length: usize) -> usize {
        self.below(length as u64) as usize
    }

    /// Uniform in the open interval from 0 to 1.
    pub(super) fn unit(&mut self) -> f64 {
        ((self.next() >> 11) as f64 + 0.5) * (1.0 / (1u64 << 53) as f64)
    }

    pub(super) fn coin(&mut self) -> bool {
        self.next() >> 63 == 1
    }
}

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

const fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_pinned() {
        let mut rng = Rng::for_turn(7, 3);
        let drawn: Vec<u64> = (0..3).map(|_| rng.below(1_000_000)).collect();
        let mut again = Rng::for_turn(7, 3);
        assert_eq!(drawn, (0..3).map(|_| again.below(1_000_000)).collect::<Vec<_>>());
        assert_ne!(Rng::for_turn(7, 4).next(), Rng::for_turn(7, 3).next());
        assert_ne!(Rng::for_turn(8, 3).next(), Rng::for_turn(7, 3).next());
    }

    #[test]
    fn draws_are_spread_evenly() {
        // The first draw of each turn is the one that matters: it is the action.
        let mut counts = [0u32; 5];
        for seed in 0..200 {
            for step in 0..200 {
                counts[Rng::for_turn(seed, step).index(5)] += 1;
            }
        }
        assert!(counts.iter().all(|&count| (7_600..8_400).contains(&count)), "{counts:?}");
        let mut rng = Rng::for_turn(1, 1);
        assert!((0..1_000).map(|_| rng.unit()).all(|u| u > 0.0 && u < 1.0));
        assert_eq!(rng.below(0), 0);
    }
}
