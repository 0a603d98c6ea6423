//! A target's points as the curves that they are.

use super::scale::usable;
use crate::report::{Distribution, Loop, Point, Target};

/// How many points are looked at closely, in distributions and time lines.
const CHOSEN_MAX: usize = 3;

/// What the points of a sweep differ in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Against {
    /// The number of sessions.
    Sessions,
    /// The rate at which steps were due.
    Rate,
}

/// Points that differ in one number, in its order.
#[derive(Clone, Debug)]
pub(super) struct Sweep<'a> {
    /// Which number.
    pub(super) against: Against,
    /// The points. At least one.
    pub(super) points: Vec<&'a Point>,
}

impl<'a> Sweep<'a> {
    /// The sweeps among a target's points: that over sessions first.
    pub(super) fn all_of(target: &'a Target) -> Vec<Self> {
        [Against::Sessions, Against::Rate]
            .into_iter()
            .filter_map(|against| {
                let mut points: Vec<&Point> =
                    target.points.iter().filter(|point| against == kind_of(point)).collect();
                points.sort_by(|a, b| against.of(a).total_cmp(&against.of(b)));
                (!points.is_empty()).then_some(Self { against, points })
            })
            .collect()
    }

    /// The numbers that the points differ in.
    pub(super) fn values(&self) -> impl Iterator<Item = f64> + Clone + use<'_, 'a> {
        self.points.iter().map(|point| self.against.of(point))
    }

    /// One number of each point, against that in which they differ.
    pub(super) fn curve<'s, F: Fn(&Point) -> f64 + 's>(
        &'s self,
        number: F,
    ) -> impl Iterator<Item = (f64, f64)> + use<'s, 'a, F> {
        self.points.iter().map(move |point| (self.against.of(point), number(point)))
    }

    /// The point with the most steps a second.
    pub(super) fn best(&self) -> Option<&'a Point> {
        let answered =
            self.points.iter().filter(|point| point.steps > 0 && usable(point.steps_per_s));
        answered.copied().max_by(|a, b| a.steps_per_s.total_cmp(&b.steps_per_s))
    }

    /// Points that stand for the others: the first, the knee or else the best, and the last.
    pub(super) fn chosen(&self, knee: Option<u32>) -> Vec<&'a Point> {
        let position = |wanted: &Point| self.points.iter().position(|p| std::ptr::eq(*p, wanted));
        let at_knee = knee.filter(|_| self.against == Against::Sessions).and_then(|sessions| {
            self.points.iter().position(|point| point.sessions.asked == sessions)
        });
        let best = self.best().and_then(position);
        let mut chosen: Vec<usize> = [Some(0), at_knee.or(best), Some(self.points.len() - 1)]
            .into_iter()
            .flatten()
            .collect();
        chosen.sort_unstable();
        chosen.dedup();
        chosen.truncate(CHOSEN_MAX);
        chosen.into_iter().map(|index| self.points[index]).collect()
    }
}

impl Against {
    /// That number of a point.
    pub(super) fn of(self, point: &Point) -> f64 {
        match (self, point.pace) {
            (Self::Rate, Loop::Open { steps_per_s }) => steps_per_s,
            (Self::Sessions | Self::Rate, _) => f64::from(point.sessions.asked),
        }
    }

    /// How the axis is called.
    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Sessions => "sessions",
            Self::Rate => "steps/s that were due",
        }
    }
}

const fn kind_of(point: &Point) -> Against {
    match point.pace {
        Loop::Closed => Against::Sessions,
        Loop::Open { .. } => Against::Rate,
    }
}

/// How a point is called.
pub(super) fn name_of(point: &Point) -> String {
    let sessions = match point.sessions.asked {
        1 => "1 session".to_owned(),
        asked => format!("{} sessions", super::numbers::count(asked.into())),
    };
    match point.pace {
        Loop::Closed => sessions,
        Loop::Open { steps_per_s } => {
            format!("{} steps/s due, {sessions}", super::numbers::quantity(steps_per_s))
        }
    }
}

/// A number of a distribution, which is none where nothing was measured.
pub(super) fn measured(distribution: &Distribution, value: f64) -> f64 {
    if distribution.count > 0 { value } else { f64::NAN }
}
