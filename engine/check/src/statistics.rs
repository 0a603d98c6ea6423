//! Estimates with what they may be off.

/// The two-sided 97.5 % quantile of the normal distribution.
const Z: f64 = 1.959_964;

/// Student's, for 1 to 30 degrees of freedom.
const T: [f64; 30] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160,
    2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056,
    2.052, 2.048, 2.045, 2.042,
];

/// An estimate and its 95 % confidence interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Estimate {
    pub(crate) value: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

impl Estimate {
    /// For people, with so many decimals.
    pub(crate) fn told(self, decimals: usize) -> String {
        let Self { value, low, high } = self;
        format!("{value:.decimals$} ({low:.decimals$} to {high:.decimals$})")
    }
}

/// Wilson's interval of a share.
pub(crate) fn share(hits: usize, of: usize) -> Estimate {
    if of == 0 {
        return Estimate { value: 0.0, low: 0.0, high: 1.0 };
    }
    let (n, p) = (of as f64, hits as f64 / of as f64);
    let z2 = Z * Z;
    let middle = (p + z2 / (2.0 * n)) / (1.0 + z2 / n);
    let half = Z / (1.0 + z2 / n) * (p * (1.0 - p) / n + z2 / (4.0 * n * n)).sqrt();
    Estimate { value: p, low: (middle - half).max(0.0), high: (middle + half).min(1.0) }
}

/// The mean, with Student's interval; no interval (all there is) for less than two values.
pub(crate) fn mean(values: &[f64]) -> Estimate {
    let n = values.len();
    if n == 0 {
        return Estimate { value: 0.0, low: f64::NEG_INFINITY, high: f64::INFINITY };
    }
    let value = values.iter().sum::<f64>() / n as f64;
    if n == 1 {
        return Estimate { value, low: f64::NEG_INFINITY, high: f64::INFINITY };
    }
    let square = values.iter().map(|it| (it - value).powi(2)).sum::<f64>() / (n - 1) as f64;
    let t = T.get(n - 2).copied().unwrap_or(Z);
    let half = t * (square / n as f64).sqrt();
    Estimate { value, low: value - half, high: value + half }
}

/// The slope of `y` over `x` by Theil and Sen: the median of the slopes of all pairs, with the interval
/// that follows from Kendall's rank correlation. One point that lies apart does not move it.
pub(crate) fn slope(points: &[(f64, f64)]) -> Estimate {
    let n = points.len();
    let mut slopes = Vec::with_capacity(n * n.saturating_sub(1) / 2);
    for (index, (x, y)) in points.iter().enumerate() {
        for (later, other) in &points[index + 1..] {
            if later > x {
                slopes.push((other - y) / (later - x));
            }
        }
    }
    if slopes.is_empty() {
        return Estimate { value: 0.0, low: f64::NEG_INFINITY, high: f64::INFINITY };
    }
    slopes.sort_by(f64::total_cmp);
    let half = Z * ((n * (n - 1) * (2 * n + 5)) as f64 / 18.0).sqrt() / 2.0;
    let (count, middle) = (slopes.len(), slopes.len() as f64 / 2.0);
    let at = |rank: f64| slopes[(rank.max(0.0) as usize).min(count - 1)];
    Estimate { value: at(middle), low: at(middle - half), high: at(middle + half) }
}

/// The value below which this share of all lies. Of sorted values.
pub(crate) fn quantile(sorted: &[f64], share: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    sorted.get((share * last as f64).round() as usize).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-3
    }

    #[test]
    fn wilsons_interval_is_that_of_the_books() {
        let it = share(8, 10);
        assert!(close(it.low, 0.4902) && close(it.high, 0.9433), "{it:?}");
        assert!(close(share(16, 16).low, 0.8064));
        assert!(close(share(0, 0).high, 1.0));
    }

    #[test]
    fn means_have_students_interval() {
        let it = mean(&[1.0, 2.0, 3.0, 4.0, 5.0]);
        assert!(close(it.value, 3.0) && close(it.high - it.value, 1.963), "{it:?}");
        assert!(mean(&[1.0]).low < -1e9 && mean(&[]).high > 1e9);
    }

    #[test]
    fn one_point_apart_does_not_move_a_slope() {
        let mut points: Vec<(f64, f64)> =
            (0..40).map(|x| (f64::from(x), 3.0 * f64::from(x))).collect();
        points[20].1 = 1e9;
        let it = slope(&points);
        assert!(close(it.value, 3.0) && close(it.low, 3.0), "{it:?}");
        let flat: Vec<(f64, f64)> = (0..40).map(|x| (f64::from(x), f64::from(x % 2))).collect();
        let it = slope(&flat);
        assert!(it.low <= 0.0 && it.high >= 0.0, "{it:?}");
    }
}
