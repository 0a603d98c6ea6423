//! The core's own draws and the derivation of seeds.

use std::time::Duration;

/// SplitMix64: one 64-bit state, good enough for jitter and for spreading seeds.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Draws that follow from `seed`.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) const fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.0)
    }

    /// `duration` give or take a quarter, so that what failed together does not come back together.
    pub fn jitter(&mut self, duration: Duration) -> Duration {
        let quarter = duration / 4;
        let share = (self.draw() >> 32) as u32;
        duration - quarter + (quarter * 2).mul_f64(f64::from(share) / f64::from(u32::MAX))
    }
}

/// The seed from which an episode's policy draws: the same for each attempt, unlike for every other
/// episode and job seed.
pub(crate) const fn policy_seed(job_seed: u64, index: u64) -> u64 {
    mix(mix(job_seed ^ 0x5851_F42D_4C95_7F2D)
        .wrapping_add(index.wrapping_mul(0x9E37_79B9_7F4A_7C15)))
}

/// The seed given to the environment: non-negative and within 31 bits, since servers hand it to
/// libraries that take no more.
pub(crate) const fn environment_seed(job_seed: u64, index: u64) -> u64 {
    job_seed.wrapping_add(index) & 0x7FFF_FFFF
}

/// A number that follows from two others.
pub(crate) const fn mixed(seed: u64, index: u64) -> u64 {
    mix(mix(seed).wrapping_add(index.wrapping_mul(0x9E37_79B9_7F4A_7C15)))
}

const fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_stays_within_a_quarter() {
        let mut random = Random::new(1);
        let second = Duration::from_secs(1);
        for _ in 0..1_000 {
            let drawn = random.jitter(second);
            assert!(drawn >= second * 3 / 4 && drawn <= second * 5 / 4, "{drawn:?}");
        }
    }

    #[test]
    fn neighbouring_episodes_share_no_policy_seed() {
        let mut seeds: Vec<u64> =
            (0..4).flat_map(|job| (0..1_000).map(move |i| policy_seed(job, i))).collect();
        seeds.sort_unstable();
        seeds.dedup();
        assert_eq!(seeds.len(), 4_000);
    }
}
