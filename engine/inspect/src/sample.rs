//! Numbers that are too many to keep.

/// So many numbers are kept for quantiles. Up to there they are exact; of more, a random sample is kept.
const KEPT_MAX: usize = 1 << 16;
/// The marks of a histogram, from few to many.
const MARKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Mean, deviation, extremes and quantiles of numbers that come one by one, in bounded memory (half a
/// mebibyte). The same numbers in the same order give the same figures.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    count: u64,
    mean: f64,
    squares: f64,
    least: f64,
    most: f64,
    kept: Vec<f64>,
    random: u64,
}

impl Sample {
    /// Adds a number; one that is not finite is left out.
    pub fn add(&mut self, value: f64) {
        if !value.is_finite() {
            return;
        }
        self.count += 1;
        let before = value - self.mean;
        self.mean += before / self.count as f64;
        self.squares += before * (value - self.mean);
        let is_first = self.count == 1;
        self.least = if is_first { value } else { self.least.min(value) };
        self.most = if is_first { value } else { self.most.max(value) };
        if self.kept.len() < KEPT_MAX {
            self.kept.push(value);
        } else {
            let place = self.draw() % self.count;
            if let Some(kept) = usize::try_from(place).ok().and_then(|it| self.kept.get_mut(it)) {
                *kept = value;
            }
        }
    }

    /// How many there were.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// Their mean; 0 of none.
    #[must_use]
    pub const fn mean(&self) -> f64 {
        self.mean
    }

    /// Their sum.
    #[must_use]
    pub fn sum(&self) -> f64 {
        self.mean * self.count as f64
    }

    /// The standard deviation of the sample (n - 1); 0 of fewer than two.
    #[must_use]
    pub fn deviation(&self) -> f64 {
        if self.count < 2 { 0.0 } else { (self.squares / (self.count - 1) as f64).max(0.0).sqrt() }
    }

    /// The least of them; 0 of none.
    #[must_use]
    pub const fn least(&self) -> f64 {
        self.least
    }

    /// The largest of them; 0 of none.
    #[must_use]
    pub const fn most(&self) -> f64 {
        self.most
    }

    /// Whether quantiles are of all numbers.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        self.count <= KEPT_MAX as u64
    }

    /// The numbers of which these shares are no larger; zeros of none.
    #[must_use]
    pub fn quantiles<const N: usize>(&self, shares: [f64; N]) -> [f64; N] {
        let mut sorted = self.kept.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        shares.map(|share| {
            let rank = (share * sorted.len() as f64).ceil() as usize;
            sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
        })
    }

    /// How many lie in each of `bins` stretches of equal length from the least to the largest.
    #[must_use]
    pub fn histogram(&self, bins: usize) -> Vec<u64> {
        let mut counts = vec![0; bins.max(1)];
        let last = counts.len() - 1;
        let width = (self.most - self.least) / counts.len() as f64;
        for value in &self.kept {
            let bin = if width > 0.0 { ((value - self.least) / width) as usize } else { 0 };
            counts[bin.min(last)] += 1;
        }
        counts
    }

    /// The histogram as one line; empty where all are the same.
    #[must_use]
    pub fn line(&self, bins: usize) -> String {
        if self.least >= self.most {
            return String::new();
        }
        let counts = self.histogram(bins);
        let most = counts.iter().copied().max().unwrap_or(1).max(1);
        let mark = |count: u64| match count {
            0 => ' ',
            count => MARKS[((count * MARKS.len() as u64).div_ceil(most) - 1).min(7) as usize],
        };
        counts.into_iter().map(mark).collect()
    }

    /// SplitMix64: which number makes room is no secret, and must not depend on the machine.
    fn draw(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_those_of_all_numbers() {
        let mut sample = Sample::default();
        for value in [3.0, 1.0, f64::NAN, 2.0, 4.0] {
            sample.add(value);
        }
        assert_eq!((sample.count(), sample.least(), sample.most()), (4, 1.0, 4.0));
        assert!((sample.mean() - 2.5).abs() < 1e-12);
        assert!((sample.deviation() - (5.0_f64 / 3.0).sqrt()).abs() < 1e-12);
        let quantiles = sample.quantiles([0.0, 0.25, 0.5, 0.75, 1.0]).map(|it| it as u32);
        assert_eq!(quantiles, [1, 1, 2, 3, 4]);
        assert_eq!(sample.line(4), "████");
        assert_eq!(Sample::default().quantiles([0.5]).map(|it| it as u32), [0]);
    }

    #[test]
    fn quantiles_of_many_are_near() {
        let mut sample = Sample::default();
        for value in 0..1_000_000_u32 {
            sample.add(f64::from(value));
        }
        let [median] = sample.quantiles([0.5]);
        assert!((median - 500_000.0).abs() < 10_000.0, "{median}");
        assert!(!sample.is_exact() && sample.kept.len() == KEPT_MAX);
    }
}
