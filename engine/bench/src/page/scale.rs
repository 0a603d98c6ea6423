//! From values to places on a drawing, and the values that an axis names.

/// Larger values are no measurements; they are left out, as is what is not a number.
const VALUE_MAX: f64 = 1e15;

/// The least that a logarithmic axis shows.
const LOG_MIN: f64 = 1e-9;

/// From this ratio of the largest to the smallest value on, an axis that may be logarithmic is.
const LOG_RATIO: f64 = 4.0;

/// From values to places along one axis.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Scale {
    is_log: bool,
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl Scale {
    /// Linear from 0 to somewhat above the largest value.
    pub(super) fn from_zero(values: impl Iterator<Item = f64>, from: f64, to: f64) -> Self {
        let high = values.filter(|value| usable(*value)).fold(0.0, f64::max);
        let high = if high > 0.0 { high * 1.08 } else { 1.0 };
        Self { is_log: false, low: 0.0, high, from, to }
    }

    /// Linear between two values.
    pub(super) fn between(low: f64, high: f64, from: f64, to: f64) -> Self {
        let low = if usable(low) { low } else { 0.0 };
        let high = if usable(high) && high > low { high } else { low + 1.0 };
        Self { is_log: false, low, high, from, to }
    }

    /// Logarithmic around all values above 0.
    pub(super) fn log(values: impl Iterator<Item = f64>, from: f64, to: f64) -> Self {
        let (low, high) = extent(values.filter(|value| *value >= LOG_MIN)).unwrap_or((1.0, 10.0));
        let (low, high) = if high / low < 1.05 { (low / 2.0, high * 2.0) } else { (low, high) };
        let air = (high / low).powf(0.04);
        Self { is_log: true, low: low / air, high: high * air, from, to }
    }

    /// Logarithmic where values are far apart, and else linear; around all of them.
    pub(super) fn spread(values: impl Iterator<Item = f64> + Clone, from: f64, to: f64) -> Self {
        match extent(values.clone()) {
            Some((low, high)) if low >= LOG_MIN && high / low >= LOG_RATIO => {
                Self::log(values, from, to)
            }
            Some((low, high)) => {
                let air = if high > low { (high - low) * 0.08 } else { (high * 0.5).max(0.5) };
                Self { is_log: false, low: low - air, high: high + air, from, to }
            }
            None => Self::between(0.0, 1.0, from, to),
        }
    }

    /// Logarithmic where values are more than a decade apart, and else linear from 0.
    pub(super) fn spread_or_zero(values: &[f64], from: f64, to: f64) -> Self {
        let values = || values.iter().copied();
        match extent(values().filter(|value| *value > 0.0)) {
            Some((low, high)) if low >= LOG_MIN && high / low >= 10.0 => {
                Self::log(values(), from, to)
            }
            _ => Self::from_zero(values(), from, to),
        }
    }

    /// Where a value lies, if it is one that lies on the axis.
    pub(super) fn at(&self, value: f64) -> Option<f64> {
        if !usable(value) || (self.is_log && value < LOG_MIN) {
            return None;
        }
        let share = if self.is_log {
            (value / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        };
        let is_on_axis = (-1e-9..=1.0 + 1e-9).contains(&share);
        is_on_axis.then_some(self.from + share * (self.to - self.from))
    }

    /// The value in the middle of two others, as the axis sees it.
    pub(super) fn between_values(&self, low: f64, high: f64, share: f64) -> f64 {
        if self.is_log { low * (high / low).powf(share) } else { low + (high - low) * share }
    }

    /// The ends of the axis.
    pub(super) const fn ends(&self) -> (f64, f64) {
        (self.low, self.high)
    }

    /// Round values along the axis, about so many.
    pub(super) fn ticks(&self, about: usize) -> Vec<f64> {
        if self.is_log { self.log_ticks(about) } else { self.linear_ticks(about) }
    }

    /// Those of `values` whose names have room beside each other, `gap` apart; the first and the last
    /// have precedence.
    pub(super) fn thinned(&self, values: &[f64], gap: f64) -> Vec<f64> {
        let places: Vec<(f64, f64)> =
            values.iter().filter_map(|value| Some((*value, self.at(*value)?))).collect();
        let (Some(first), Some(last)) = (places.first(), places.last()) else { return Vec::new() };
        let mut kept = vec![*first];
        for place in &places {
            let after = kept.last().is_some_and(|kept| (place.1 - kept.1).abs() >= gap);
            if after && (last.1 - place.1).abs() >= gap {
                kept.push(*place);
            }
        }
        if (last.1 - first.1).abs() >= gap {
            kept.push(*last);
        }
        kept.into_iter().map(|(value, _)| value).collect()
    }

    fn linear_ticks(&self, about: usize) -> Vec<f64> {
        let step = round_up((self.high - self.low) / about.max(1) as f64);
        let first = (self.low / step).ceil();
        // One more than fits is not there; the bound is for the rounding of huge numbers.
        (0..=2 * about)
            .map(|index| (first + index as f64) * step)
            .take_while(|value| *value <= self.high)
            .collect()
    }

    fn log_ticks(&self, about: usize) -> Vec<f64> {
        let (first, last) = (self.low.log10().floor() as i32, self.high.log10().ceil() as i32);
        let decades = ((self.high / self.low).log10().round() as usize).max(1);
        let parts: &[f64] = match about / decades {
            0 | 1 => &[1.0],
            2 => &[1.0, 3.0],
            3..=5 => &[1.0, 2.0, 5.0],
            _ => &[1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0],
        };
        let every = decades.div_ceil(about.max(1)).max(1);
        (first..=last)
            .step_by(every)
            .flat_map(|decade| parts.iter().map(move |part| part * 10_f64.powi(decade)))
            .filter(|value| (self.low..=self.high).contains(value))
            .collect()
    }
}

/// Whether a value can be drawn.
pub(super) fn usable(value: f64) -> bool {
    value.is_finite() && value.abs() <= VALUE_MAX
}

/// The smallest and the largest of the values that can be drawn.
fn extent(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    values.filter(|value| usable(*value)).fold(None, |extent, value| match extent {
        None => Some((value, value)),
        Some((low, high)) => Some((value.min(low), value.max(high))),
    })
}

/// The next of 1, 2, 5, 10, 20, 50, …
fn round_up(value: f64) -> f64 {
    let decade = 10_f64.powf(value.max(1e-12).log10().floor());
    let part = [1.0, 2.0, 5.0].into_iter().find(|part| part * decade >= value * (1.0 - 1e-9));
    part.unwrap_or(10.0) * decade
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn linear_axes_start_at_zero_and_have_round_ticks() {
        let scale = Scale::from_zero([3.0, 920.0, f64::NAN].into_iter(), 0.0, 100.0);
        assert_eq!(scale.at(0.0), Some(0.0));
        assert_eq!(scale.ticks(5), [0.0, 200.0, 400.0, 600.0, 800.0]);
        assert_eq!(scale.at(f64::NAN), None);
        assert_eq!(scale.at(-1.0), None);
    }

    #[test]
    fn logarithmic_axes_have_decades() {
        let scale = Scale::log([0.0, 0.5, 2000.0].into_iter(), 100.0, 0.0);
        assert_eq!(scale.ticks(4), [1.0, 10.0, 100.0, 1000.0]);
        assert_eq!(scale.at(0.0), None);
        let (low, high) = (scale.at(0.5).unwrap(), scale.at(2000.0).unwrap());
        assert!(low > 90.0 && high < 10.0, "{low} {high}");
    }

    #[test]
    fn ticks_at_values_keep_their_distance() {
        let scale = Scale::spread([1.0, 2.0, 4.0, 8.0, 16.0].into_iter(), 0.0, 100.0);
        assert_eq!(scale.thinned(&[1.0, 2.0, 4.0, 8.0, 16.0], 40.0), [1.0, 4.0, 16.0]);
        assert_eq!(scale.thinned(&[4.0], 40.0), [4.0]);
        assert!(scale.thinned(&[], 40.0).is_empty());
    }

    #[test]
    fn one_value_lies_in_the_middle() {
        let scale = Scale::spread([7.0].into_iter(), 0.0, 100.0);
        assert_eq!(scale.at(7.0).map(f64::round), Some(50.0));
    }

    proptest! {
        #[test]
        fn places_are_within_the_axis(values in prop::collection::vec(any::<f64>(), 0..8)) {
            for scale in [
                Scale::from_zero(values.iter().copied(), 0.0, 300.0),
                Scale::log(values.iter().copied(), 0.0, 300.0),
                Scale::spread(values.iter().copied(), 0.0, 300.0),
            ] {
                let ticks = scale.ticks(5);
                prop_assert!(ticks.len() <= 40, "{ticks:?}");
                for place in values.iter().chain(&ticks).filter_map(|value| scale.at(*value)) {
                    prop_assert!((-1e-3..=300.001).contains(&place), "{place}");
                }
            }
        }
    }
}
