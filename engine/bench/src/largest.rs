//! How many sessions go well.

use crate::report::{Largest, Point};

/// The share of what was asked for that went well: of the sessions, or of the requests, whichever is less.
#[must_use]
pub fn success(point: &Point) -> f64 {
    point.sessions.success.min(point.requests.success)
}

/// The largest number of sessions of which at least the share `least` went well.
#[must_use]
pub fn largest(points: &[Point], least: f64) -> Option<Largest> {
    // Of two points with one number, the later one knows better: it is measured to make sure.
    let is_good = |point: &Point| success(point) >= least;
    let latest = |sessions: u32| points.iter().rev().find(|point| point.sessions.asked == sessions);
    let good = points.iter().filter(|point| latest(point.sessions.asked).is_some_and(is_good));
    let best = good.max_by_key(|point| point.sessions.asked)?;
    let best = latest(best.sessions.asked)?;
    let sessions = best.sessions.asked;
    let is_bounded = points.iter().any(|point| point.sessions.asked > sessions);
    Some(Largest { sessions, success: success(best), is_bounded })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sweep::tests::{point, refusing};

    #[test]
    fn the_largest_that_went_well_enough_is_found() {
        let points = [point(1), point(2), point(4), refusing(8, 5), point(5)];
        let found = largest(&points, 1.0).unwrap();
        assert_eq!((found.sessions, found.is_bounded), (5, true));
        assert_eq!(largest(&points, 0.5).map(|found| found.sessions), Some(8));
        let all = [point(1), point(2)];
        assert_eq!(largest(&all, 1.0).map(|found| found.is_bounded), Some(false));
        assert_eq!(largest(&[refusing(1, 0)], 0.95), None);
    }

    #[test]
    fn requests_count_like_sessions() {
        let mut failing = point(4);
        failing.requests.success = 0.97;
        assert_eq!(largest(&[failing.clone()], 1.0), None);
        assert_eq!(largest(&[failing], 0.95).map(|found| found.sessions), Some(4));
    }
}
