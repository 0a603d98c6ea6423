//! What holds a target back, concluded from its points.

mod facts;
#[cfg(test)]
mod tests;

use self::facts::Facts;
use crate::{
    largest::success,
    report::{Bottleneck, Kind, Point},
    sweep::session_cap,
};

/// What is known beside the points.
#[derive(Clone, Copy, Debug)]
pub struct About {
    /// What the target is.
    pub kind: Kind,
    /// Hardware threads of this machine.
    pub threads: u32,
    /// Whether the target is on this machine.
    pub is_local: bool,
    /// Whether all sessions were asked for at once.
    pub storm: bool,
}

/// What goes well for this share goes well.
const SUCCESS_MIN: f64 = 0.95;

/// What holds a target back. The rules are tried in this order, at the smallest point with 95 % of the best
/// throughput; the first that fits is the answer. They stand in `docs/bench.md`.
#[must_use]
pub fn bottleneck(points: &[Point], about: About) -> Bottleneck {
    let mut sorted: Vec<&Point> = points.iter().filter(|point| point.measured_s > 0.0).collect();
    sorted.sort_by_key(|point| point.sessions.asked);
    if let Some(found) = storm(&sorted, about) {
        return found;
    }
    let rate = |point: &&Point| point.steps_per_s;
    let best = sorted.iter().map(rate).fold(0.0, f64::max);
    let at = sorted.iter().copied().find(|point| best > 0.0 && rate(point) >= 0.95 * best);
    let Some(at) = at else { return unknown(points) };
    let facts = Facts { points: &sorted, at, about };
    if let Some(kept_up) = facts.keeps_up() {
        return kept_up;
    }
    // What is full is full, whether throughput still grows a little or not; the rest only where it does not.
    let full = facts.machine().or_else(|| facts.client()).or_else(|| facts.cpu());
    let waits = || facts.network().or_else(|| facts.queue());
    full.or_else(|| facts.thread())
        .or_else(|| if facts.is_saturated() { waits() } else { None })
        .or_else(|| facts.cap(session_cap(points)))
        .or_else(|| facts.environment())
        .unwrap_or_else(|| facts.none())
}

/// Sessions that were asked for at once, and did not all come through.
fn storm(points: &[&Point], about: About) -> Option<Bottleneck> {
    let failed = points.iter().copied().find(|point| {
        let sessions = &point.sessions;
        f64::from(sessions.failed) > (1.0 - SUCCESS_MIN) * f64::from(sessions.asked)
    })?;
    if !about.storm {
        return None;
    }
    let sessions = &failed.sessions;
    let causes: Vec<String> =
        sessions.failures.iter().map(|(cause, count)| format!("{count} {cause}")).collect();
    Some(Bottleneck {
        what: "connect_storm".into(),
        summary: format!(
            "With {} sessions asked for at once, {} failed before they were admitted.",
            sessions.asked, sessions.failed
        ),
        evidence: vec![
            format!("why: {}", causes.join(", ")),
            format!(
                "connections took {:.0} ms in the median and {:.0} ms at most, first resets {:.0} and {:.0} ms",
                failed.latency_ms.connect.p50,
                failed.latency_ms.connect.max,
                failed.latency_ms.first_reset.p50,
                failed.latency_ms.first_reset.max
            ),
            format!(
                "{} sessions were admitted within {:.1} s",
                sessions.admitted, sessions.opened_in_s
            ),
        ],
        remedy:
            "Open sessions a few at a time, as envmill does without --connect-storm, and keep them."
                .into(),
    })
}

fn unknown(points: &[Point]) -> Bottleneck {
    let failed = points.iter().find(|point| success(point) < SUCCESS_MIN);
    let causes = failed.map_or_else(Vec::new, |point| {
        let sessions = point.sessions.failures.iter();
        let all = sessions.chain(&point.requests.failures);
        all.map(|(cause, count)| format!("with {} sessions: {count} {cause}", point.sessions.asked))
            .collect()
    });
    Bottleneck {
        what: "unknown".into(),
        summary: "No step was answered, so there is nothing to say about what holds it back."
            .into(),
        evidence: causes,
        remedy: "Make one session work first: envmill run --env TARGET --sessions 1 --episodes 1."
            .into(),
    }
}
