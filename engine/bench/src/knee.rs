//! Where more sessions stop paying.

use crate::{
    largest::success,
    report::{Knee, Point},
};

/// The share of the best throughput that counts as all of it.
const ENOUGH: f64 = 0.9;
/// Points whose success is less do not count: what they serve they serve to a part.
const SUCCESS_MIN: f64 = 0.95;
/// Fewer points than this have no shape.
const POINTS_MIN: usize = 3;

/// The smallest number of sessions that reaches nine tenths of the best throughput; `None` where fewer than three
/// points went well.
#[must_use]
pub fn knee(points: &[Point]) -> Option<Knee> {
    let mut good: Vec<&Point> =
        points.iter().filter(|point| success(point) >= SUCCESS_MIN).collect();
    if good.len() < POINTS_MIN {
        return None;
    }
    good.sort_by_key(|point| point.sessions.asked);
    let best = good.iter().copied().max_by(|a, b| a.steps_per_s.total_cmp(&b.steps_per_s))?;
    if best.steps_per_s <= 0.0 {
        return None;
    }
    let knee = good.iter().find(|point| point.steps_per_s >= ENOUGH * best.steps_per_s)?;
    let percent = 100.0 * knee.steps_per_s / best.steps_per_s;
    let most = good.last()?.sessions.asked;
    let sessions = knee.sessions.asked;
    let why = if sessions == most {
        format!("{sessions} is the most that was measured: throughput may grow beyond it")
    } else {
        format!(
            "the smallest number of sessions with at least 90 % of the best throughput: {percent:.0} % of {:.0} \
             steps/s, which {} sessions reach",
            best.steps_per_s, best.sessions.asked
        )
    };
    let step_p99_ms = knee.latency_ms.step.p99;
    Some(Knee { sessions, steps_per_s: knee.steps_per_s, step_p99_ms, why })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sweep::tests::{fast, refusing};

    #[test]
    fn the_knee_is_where_the_curve_flattens() {
        let points =
            [fast(1, 100.0), fast(2, 190.0), fast(4, 370.0), fast(8, 395.0), fast(16, 400.0)];
        let knee = knee(&points).unwrap();
        assert_eq!(knee.sessions, 4);
        assert!(knee.why.contains("92 % of 400"), "{}", knee.why);
    }

    #[test]
    fn a_curve_that_still_grows_has_its_knee_at_the_end() {
        let knee = knee(&[fast(1, 1.0), fast(2, 2.0), fast(4, 4.0)]).unwrap();
        assert_eq!(knee.sessions, 4);
        assert!(knee.why.contains("may grow"), "{}", knee.why);
    }

    #[test]
    fn what_was_refused_and_too_few_points_give_none() {
        assert_eq!(knee(&[fast(1, 1.0), fast(2, 2.0), refusing(4, 2)]), None);
        assert_eq!(knee(&[fast(1, 0.0), fast(2, 0.0), fast(3, 0.0)]), None);
    }
}
