//! Which numbers of sessions are measured, and when it is enough.

use crate::{
    largest::success,
    report::{Point, Stop},
};

/// Below this share of success, a number of sessions is too much.
const SUCCESS_MIN: f64 = 0.95;
/// How often the way from a number that goes well to one that does not is halved.
const HALVINGS_MAX: u32 = 3;
/// How often a cap is looked at again, if another is found than was thought.
const CAP_TRIES_MAX: u32 = 3;
/// So many points on end without more steps, and throughput is all there is.
const FLAT_MAX: usize = 3;
/// By how much the best must grow to be better.
const BETTER: f64 = 1.05;

/// What a sweep is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SweepOptions {
    /// The largest number of sessions, at least 1.
    pub max: u32,
    /// The numbers to measure, instead of 1, 2, 4 and so on.
    pub sessions: Option<Vec<u32>>,
    /// Whether it ends once more sessions bring no more steps.
    pub until_saturated: bool,
}

/// Decides from the points so far.
#[derive(Clone, Debug)]
pub struct Sweep {
    options: SweepOptions,
}

/// What follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Sessions(u32),
    Stop(Stop),
}

impl Sweep {
    /// A sweep that has not begun.
    #[must_use]
    pub fn new(options: SweepOptions) -> Self {
        Self { options }
    }

    /// The next number of sessions to measure, or why there is none. `points` are those so far, in the order in
    /// which they were measured.
    ///
    /// # Errors
    ///
    /// The sweep is over, for this reason.
    pub fn next(&self, points: &[Point]) -> Result<u32, Stop> {
        let next = match &self.options.sessions {
            Some(list) => {
                list.get(points.len()).map_or(Next::Stop(Stop::Max), |n| Next::Sessions(*n))
            }
            None => self.doubled(points),
        };
        match next {
            Next::Sessions(sessions) => Ok(sessions),
            Next::Stop(stop) => Err(stop),
        }
    }

    fn doubled(&self, points: &[Point]) -> Next {
        let Some(last) = points.last() else { return Next::Sessions(1) };
        if points.iter().any(|point| point.sessions.refused > 0) {
            return at_the_cap(points);
        }
        if points.iter().any(|point| success(point) < SUCCESS_MIN) {
            return halved(points);
        }
        if last.sessions.asked >= self.options.max {
            return Next::Stop(Stop::Max);
        }
        if self.options.until_saturated && is_saturated(points) {
            return Next::Stop(Stop::Saturated);
        }
        Next::Sessions(last.sessions.asked.saturating_mul(2).min(self.options.max))
    }
}

/// A session was refused: how many the target holds is how many it admitted then, which is measured once more as
/// a number of its own.
fn at_the_cap(points: &[Point]) -> Next {
    let Some(cap) = session_cap(points) else { return Next::Stop(Stop::Refused) };
    let tries = points.iter().filter(|point| point.sessions.refused > 0).count() as u32;
    let is_known = points.iter().any(|point| point.sessions.asked == cap);
    if cap == 0 || is_known || tries > CAP_TRIES_MAX {
        return Next::Stop(Stop::Refused);
    }
    Next::Sessions(cap)
}

/// Too much failed with some number: the largest that goes well lies between that and the one before.
fn halved(points: &[Point]) -> Next {
    let is_good = |point: &&Point| success(point) >= SUCCESS_MIN;
    let good = points.iter().filter(is_good).map(|point| point.sessions.asked).max().unwrap_or(0);
    let bad = points.iter().filter(|point| !is_good(point)).map(|point| point.sessions.asked);
    let bad = bad.filter(|&sessions| sessions > good).min().unwrap_or(good);
    let first_bad = points.iter().position(|point| success(point) < SUCCESS_MIN);
    let halvings = points.len() - first_bad.unwrap_or(points.len()) - 1;
    let middle = good + (bad - good) / 2;
    if good == 0 || middle == good || halvings as u32 >= HALVINGS_MAX {
        return Next::Stop(Stop::Failures);
    }
    Next::Sessions(middle)
}

/// Whether the last points brought no more steps than those before.
fn is_saturated(points: &[Point]) -> bool {
    let Some(before) = points.len().checked_sub(FLAT_MAX).filter(|&before| before > 0) else {
        return false;
    };
    let best = |points: &[Point]| points.iter().map(|point| point.steps_per_s).fold(0.0, f64::max);
    best(&points[before..]) < BETTER * best(&points[..before])
}

/// The number of sessions that the target was seen to hold when it refused another: the most that it admitted at a
/// point at which it refused some. `None` if it never refused one.
#[must_use]
pub fn session_cap(points: &[Point]) -> Option<u32> {
    let refusing = points.iter().filter(|point| point.sessions.refused > 0);
    refusing.map(|point| point.sessions.admitted).max()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::report::{Latencies, Loop, Requests, Sessions, Usage, Where};

    /// A point at which all went well.
    pub(crate) fn point(sessions: u32) -> Point {
        refusing(sessions, sessions)
    }

    pub(crate) fn fast(sessions: u32, steps_per_s: f64) -> Point {
        Point { steps_per_s, ..point(sessions) }
    }

    /// A point of which so many sessions were admitted, and the rest refused.
    pub(crate) fn refusing(sessions: u32, admitted: u32) -> Point {
        Point {
            began_s: 0.0,
            pace: Loop::Closed,
            sessions: Sessions {
                asked: sessions,
                admitted,
                refused: sessions - admitted,
                success: f64::from(admitted) / f64::from(sessions),
                ..Sessions::default()
            },
            measured_s: 1.0,
            steps: 100,
            episodes: 1,
            steps_per_s: 100.0,
            episodes_per_s: 1.0,
            requests: Requests { sent: 100, success: 1.0, ..Requests::default() },
            latency_ms: Latencies::default(),
            server: None,
            engine: Usage::default(),
            machine_cores: None,
            traffic: None,
            share_of_time: Where::default(),
            timeline: Vec::new(),
        }
    }

    fn failing(sessions: u32) -> Point {
        let mut point = point(sessions);
        point.requests.success = 0.5;
        point
    }

    /// What a sweep measures on a target, and why it stops.
    fn swept(options: SweepOptions, target: impl Fn(u32) -> Point) -> (Vec<u32>, Stop) {
        let sweep = Sweep::new(options);
        let mut points: Vec<Point> = Vec::new();
        loop {
            match sweep.next(&points) {
                Ok(sessions) => points.push(target(sessions)),
                Err(stop) => {
                    return (points.iter().map(|point| point.sessions.asked).collect(), stop);
                }
            }
            assert!(points.len() < 64, "no end");
        }
    }

    fn up_to(max: u32) -> SweepOptions {
        SweepOptions { max, sessions: None, until_saturated: false }
    }

    #[test]
    fn numbers_double_up_to_the_largest() {
        assert_eq!(swept(up_to(20), point), (vec![1, 2, 4, 8, 16, 20], Stop::Max));
        assert_eq!(swept(up_to(1), point), (vec![1], Stop::Max));
    }

    #[test]
    fn a_cap_is_found_and_confirmed() {
        for cap in [1, 2, 3, 8, 37, 1000] {
            let target = |sessions: u32| refusing(sessions, sessions.min(cap));
            let (measured, stop) = swept(up_to(4096), target);
            assert_eq!(stop, Stop::Refused);
            assert!(measured.contains(&cap), "{cap}: {measured:?}");
            let points: Vec<Point> = measured.into_iter().map(target).collect();
            assert_eq!(session_cap(&points), Some(cap));
        }
        assert_eq!(swept(up_to(64), |sessions| refusing(sessions, 0)), (vec![1], Stop::Refused));
    }

    #[test]
    fn a_cap_that_moves_ends_the_sweep_all_the_same() {
        let (measured, stop) =
            swept(up_to(64), |n| if n < 8 { point(n) } else { refusing(n, n - 1) });
        assert_eq!(stop, Stop::Refused);
        assert!(measured.len() < 10, "{measured:?}");
    }

    #[test]
    fn the_edge_of_failures_is_looked_for() {
        let target = |sessions| if sessions <= 11 { point(sessions) } else { failing(sessions) };
        assert_eq!(swept(up_to(64), target), (vec![1, 2, 4, 8, 16, 12, 10, 11], Stop::Failures));
        assert_eq!(swept(up_to(64), failing), (vec![1], Stop::Failures));
    }

    #[test]
    fn saturation_ends_it_where_that_was_asked_for() {
        let target = |sessions: u32| fast(sessions, f64::from(sessions.min(4)) * 10.0);
        let options = SweepOptions { until_saturated: true, ..up_to(1024) };
        assert_eq!(swept(options, target), (vec![1, 2, 4, 8, 16, 32], Stop::Saturated));
        assert_eq!(swept(up_to(16), target).1, Stop::Max);
    }

    #[test]
    fn given_numbers_are_measured_as_they_are() {
        let options = SweepOptions { sessions: Some(vec![7, 3, 900]), ..up_to(8) };
        assert_eq!(swept(options, failing), (vec![7, 3, 900], Stop::Max));
    }
}
