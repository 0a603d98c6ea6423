//! How durations spread around their middle.

use std::{sync::Arc, time::Duration};

use crate::Random;

/// The shape of a distribution of durations; its middle is given where it is used.
#[derive(Clone, Debug, Default)]
pub enum Shape {
    /// Evenly from half of the middle to one and a half of it.
    #[default]
    Spread,
    /// Always the middle.
    Constant,
    /// Lognormal: the logarithm is normal with this standard deviation. The middle is the median.
    LogNormal {
        /// Standard deviation of the natural logarithm; 1 makes one in a hundred ten times as long.
        sigma: f64,
    },
    /// Pareto: the tail falls with this power. The middle is the median.
    Pareto {
        /// The exponent; with 1.5 the mean is finite and the variance is not.
        alpha: f64,
    },
    /// Drawn from what was recorded, as multiples of its median.
    Recorded(Arc<[f64]>),
}

/// No draw is longer than this many times the middle.
const MULTIPLE_MAX: f64 = 10_000.0;

impl Shape {
    /// A duration around `middle`.
    pub fn draw(&self, middle: Duration, random: &mut Random) -> Duration {
        match self {
            Self::Spread => middle / 2 + random.up_to(middle),
            Self::Constant => middle,
            _ => middle.mul_f64(self.multiple(random)),
        }
    }

    /// A multiple of the middle.
    pub fn multiple(&self, random: &mut Random) -> f64 {
        let multiple = match self {
            Self::Spread => 0.5 + random.unit(),
            Self::Constant => 1.0,
            Self::LogNormal { sigma } => (sigma * random.normal()).exp(),
            Self::Pareto { alpha } => (2.0 * random.unit()).powf(-1.0 / alpha),
            Self::Recorded(multiples) => {
                let index = random.below(multiples.len() as u64) as usize;
                multiples.get(index).copied().unwrap_or(1.0)
            }
        };
        multiple.min(MULTIPLE_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_is_the_median() {
        for shape in [
            Shape::Spread,
            Shape::Constant,
            Shape::LogNormal { sigma: 1.0 },
            Shape::Pareto { alpha: 1.5 },
            Shape::Recorded([0.5, 1.0, 1.0, 1.0, 40.0].into()),
        ] {
            let mut random = Random::new(1);
            let mut drawn: Vec<Duration> =
                (0..10_001).map(|_| shape.draw(Duration::from_secs(1), &mut random)).collect();
            drawn.sort_unstable();
            let median = drawn[5_000].as_secs_f64();
            assert!((0.95..1.05).contains(&median), "{shape:?}: {median}");
        }
    }
}
