//! Medians, and what can be said of a ratio after a few noisy, interleaved pairs of runs.

/// A 95 % interval and the median within it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// The 2.5th percentile of the resampled medians.
    pub low: f64,
    /// The median of the pairs.
    pub median: f64,
    /// The 97.5th percentile of the resampled medians.
    pub high: f64,
}

/// What a step of one kind cost in each run.
#[derive(Clone, Debug, Default)]
pub struct Costs {
    /// CPU microseconds a step.
    pub cpu_us: Vec<f64>,
    /// Steps a second of wall-clock.
    pub steps_per_s: Vec<f64>,
}

impl Costs {
    /// One more run.
    pub fn push(&mut self, cpu_us: f64, steps_per_s: f64) {
        self.cpu_us.push(cpu_us);
        self.steps_per_s.push(steps_per_s);
    }
}

/// The median; NaN of an empty list.
#[must_use]
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match (sorted.len(), sorted.len() / 2) {
        (0, _) => f64::NAN,
        (length, half) if length % 2 == 1 => sorted[half],
        (_, half) => f64::midpoint(sorted[half - 1], sorted[half]),
    }
}

/// The ratio `a / b` over pairs of runs made next to each other: its median, with the 95 % interval
/// of a bootstrap over the pairs (2,000 resamples, fixed seed, so that a table can be printed again).
#[must_use]
pub fn ratio_interval(a: &[f64], b: &[f64]) -> Interval {
    let ratios: Vec<f64> = a.iter().zip(b).map(|(a, b)| a / b).collect();
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut draw = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 33) as usize % below
    };
    let mut medians: Vec<f64> = (0..2_000)
        .map(|_| {
            let sample: Vec<f64> = ratios.iter().map(|_| ratios[draw(ratios.len())]).collect();
            median(&sample)
        })
        .collect();
    medians.sort_by(f64::total_cmp);
    Interval { low: medians[50], median: median(&ratios), high: medians[1_949] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_holds_the_median() {
        let a: Vec<f64> = (0..12).map(|n| 2.0 + f64::from(n % 3) * 0.1).collect();
        let b = vec![1.0; 12];
        let interval = ratio_interval(&a, &b);
        assert!(interval.low <= interval.median && interval.median <= interval.high);
        assert!((interval.median - 2.1).abs() < 1e-9, "{interval:?}");
    }
}
