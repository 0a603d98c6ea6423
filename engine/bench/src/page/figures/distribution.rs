//! The whole distribution of steps' latency at some points, with the tail spread out.

use crate::{
    page::{
        html::Html,
        numbers::short,
        plot::{Frame, Key, LINES, drawing, figure, line, x_axis, y_axis},
        scale::Scale,
        sweep::name_of,
    },
    report::{Distribution, Point},
};

/// Where the axis ends: the part of 10⁻⁵ that is slowest.
const ONE_IN_MAX: f64 = 100_000.0;

/// The percentiles that the axis names, each as one in so many.
const TICKS: [(f64, &str); 6] =
    [(1.0, "0"), (2.0, "50"), (10.0, "90"), (100.0, "99"), (1000.0, "99.9"), (10_000.0, "99.99")];

/// The figure. Nothing where nothing was measured.
pub(in crate::page) fn distribution(html: &mut Html, chosen: &[&Point]) {
    let curves: Vec<(String, Vec<(f64, f64)>)> = chosen
        .iter()
        .map(|point| (name_of(point), curve(&point.latency_ms.step)))
        .filter(|(_, curve)| !curve.is_empty())
        .collect();
    if curves.is_empty() {
        return;
    }
    let frame = &Frame::SMALL;
    let all = || curves.iter().flat_map(|(_, curve)| curve);
    let last = all().map(|(one_in, _)| *one_in).fold(10.0, f64::max);
    let x = Scale::log([1.0, last].into_iter(), frame.left, frame.right);
    let y = Scale::log(all().map(|(_, value)| *value), frame.bottom, frame.top);
    let keys: Vec<Key<'_>> =
        curves.iter().zip(LINES).map(|((name, _), look)| Key::line(name, look)).collect();
    let heading = "Distribution of latency";
    let note = "How long the fastest so many percent of steps took. Flat is steady; what bends upwards at \
                the right is the tail.";
    figure(html, heading, note, &keys, |html| {
        drawing(html, "plot", frame, heading, note, |html| {
            y_axis(html, frame, &y, short, "ms");
            let ticks = TICKS.map(|(one_in, _)| one_in);
            x_axis(html, frame, &x, &ticks, percentile, "percentile of steps");
            for ((_, curve), look) in curves.iter().zip(LINES) {
                line(html, look, (&x, &y), curve.iter().copied());
            }
        });
    });
}

fn percentile(one_in: f64) -> String {
    let tick = TICKS.iter().find(|(value, _)| (value - one_in).abs() < 0.5);
    tick.map_or_else(String::new, |(_, name)| (*name).to_owned())
}

/// Latencies, each against the one in so many steps that took longer.
fn curve(distribution: &Distribution) -> Vec<(f64, f64)> {
    if distribution.count == 0 {
        return Vec::new();
    }
    let total: f64 = distribution.buckets.iter().map(|bucket| bucket.count as f64).sum();
    let mut curve = vec![(1.0, distribution.min)];
    if total > 0.0 {
        let mut before = 0.0;
        for bucket in &distribution.buckets {
            before += bucket.count as f64;
            // The last one would lie at infinity: it is where one more step would be.
            let slower = (total - before).max(0.5);
            let one_in = total / slower;
            if one_in > ONE_IN_MAX {
                break;
            }
            curve.push((one_in, bucket.up_to));
        }
    } else {
        curve.extend([
            (2.0, distribution.p50),
            (10.0, distribution.p90),
            (20.0, distribution.p95),
            (100.0, distribution.p99),
            (1000.0, distribution.p999),
        ]);
    }
    curve.retain(|(_, value)| *value > 0.0 && value.is_finite());
    curve
}
