//! Conditions on a number, as users write them.

use std::str::FromStr;

/// A stretch of numbers: `>0.5`, `>=0.5`, `<3`, `<=3`, `=1` (or `1`), or `1..3` with both ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    low: f64,
    high: f64,
    /// Whether the ends themselves are in it.
    with_low: bool,
    with_high: bool,
}

/// This is no condition on a number.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("write >N, >=N, <N, <=N, =N or N..M with numbers, not `{0}`")]
pub struct IntervalError(String);

impl Interval {
    /// Whether a number is in it.
    #[must_use]
    pub fn holds(&self, value: f64) -> bool {
        (value > self.low || self.with_low && value >= self.low)
            && (value < self.high || self.with_high && value <= self.high)
    }
}

impl FromStr for Interval {
    type Err = IntervalError;

    fn from_str(text: &str) -> Result<Self, IntervalError> {
        let wrong = || IntervalError(text.to_owned());
        let number = |text: &str| {
            text.trim().parse::<f64>().ok().filter(|it| !it.is_nan()).ok_or_else(wrong)
        };
        let all =
            Self { low: f64::NEG_INFINITY, high: f64::INFINITY, with_low: true, with_high: true };
        let trimmed = text.trim();
        if let Some((low, high)) = trimmed.split_once("..") {
            let (low, high) = (number(low)?, number(high)?);
            return if low <= high { Ok(Self { low, high, ..all }) } else { Err(wrong()) };
        }
        if let Some(rest) = trimmed.strip_prefix(">=") {
            return Ok(Self { low: number(rest)?, ..all });
        }
        if let Some(rest) = trimmed.strip_prefix("<=") {
            return Ok(Self { high: number(rest)?, ..all });
        }
        if let Some(rest) = trimmed.strip_prefix('>') {
            return Ok(Self { low: number(rest)?, with_low: false, ..all });
        }
        if let Some(rest) = trimmed.strip_prefix('<') {
            return Ok(Self { high: number(rest)?, with_high: false, ..all });
        }
        let value = number(trimmed.strip_prefix('=').unwrap_or(trimmed))?;
        Ok(Self { low: value, high: value, ..all })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(text: &str) -> Vec<u32> {
        let interval: Interval = text.parse().unwrap();
        (0..5).filter(|&value| interval.holds(f64::from(value))).collect()
    }

    #[test]
    fn conditions_hold_what_they_say() {
        assert_eq!(held(">2"), [3, 4]);
        assert_eq!(held(">= 2"), [2, 3, 4]);
        assert_eq!(held("<2"), [0, 1]);
        assert_eq!(held("<=2"), [0, 1, 2]);
        assert_eq!(held("=2"), [2]);
        assert_eq!(held("2"), [2]);
        assert_eq!(held("1..3"), [1, 2, 3]);
        assert_eq!(held("-1..0.5"), [0]);
        for wrong in ["", ">", "x", "3..1", "1..", "=NaN", "><2"] {
            assert!(wrong.parse::<Interval>().is_err(), "{wrong}");
        }
    }
}
