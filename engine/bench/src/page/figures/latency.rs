//! Percentiles of steps, as sent and corrected, against sessions or against the rate that was due.

use crate::{
    page::{
        html::Html,
        numbers::{milliseconds, short},
        plot::{DOTS, Frame, Key, LINES, dot, drawing, figure, line, x_axis, y_axis},
        scale::Scale,
        sweep::{Sweep, measured, name_of},
    },
    report::{Distribution, Point},
};

/// A percentile: its name, its number, how it is drawn, and how its corrected form is.
type Percentile = (&'static str, fn(&Distribution) -> f64, usize, &'static str);

const PERCENTILES: [Percentile; 3] = [
    ("p50", |distribution| measured(distribution, distribution.p50), 0, "line corrected s1"),
    ("p90", |distribution| measured(distribution, distribution.p90), 1, "line corrected s2"),
    ("p99", |distribution| measured(distribution, distribution.p99), 2, "line corrected s3"),
];

/// The figure. Nothing where no step was answered.
pub(in crate::page) fn latency(html: &mut Html, sweep: &Sweep<'_>) {
    if sweep.points.iter().all(|point| point.latency_ms.step.count == 0) {
        return;
    }
    let frame = &Frame::SMALL;
    let mut keys: Vec<Key<'_>> =
        PERCENTILES.iter().map(|(name, _, look, _)| Key::line(name, LINES[*look])).collect();
    keys.push(Key::line("corrected", "line corrected"));
    let note = "Of steps. Corrected for coordinated omission: what requests would have seen that a slow \
                answer kept from being sent.";
    let values = sweep.points.iter().flat_map(|point| {
        PERCENTILES.iter().flat_map(|(_, of, ..)| {
            [of(&point.latency_ms.step), of(&point.latency_ms.step_corrected)]
        })
    });
    let x = Scale::spread(sweep.values(), frame.left, frame.right);
    let y = Scale::log(values, frame.bottom, frame.top);
    let heading = format!("Latency against {}", sweep.against.label());
    figure(html, &heading, note, &keys, |html| {
        drawing(html, "plot", frame, &heading, &describe(sweep), |html| {
            y_axis(html, frame, &y, short, "ms");
            let ticks: Vec<f64> = sweep.values().collect();
            x_axis(html, frame, &x, &ticks, short, sweep.against.label());
            for (name, of, look, corrected) in PERCENTILES {
                let curve = sweep.curve(|point| of(&point.latency_ms.step_corrected));
                line(html, corrected, (&x, &y), curve);
                line(html, LINES[look], (&x, &y), sweep.curve(|point| of(&point.latency_ms.step)));
                for point in &sweep.points {
                    let at = (sweep.against.of(point), of(&point.latency_ms.step));
                    dot(html, DOTS[look], (&x, &y), at, &tooltip(name, of, point));
                }
            }
        });
    });
}

fn tooltip(name: &str, of: fn(&Distribution) -> f64, point: &Point) -> String {
    format!(
        "{}: {name} {}, corrected {}",
        name_of(point),
        milliseconds(of(&point.latency_ms.step)),
        milliseconds(of(&point.latency_ms.step_corrected))
    )
}

fn describe(sweep: &Sweep<'_>) -> String {
    let ends = [sweep.points.first(), sweep.points.last()];
    let ends: Vec<String> = ends
        .into_iter()
        .flatten()
        .map(|point| {
            let step = &point.latency_ms.step;
            format!(
                "{}: median {}, 99th percentile {}",
                name_of(point),
                milliseconds(measured(step, step.p50)),
                milliseconds(measured(step, step.p99))
            )
        })
        .collect();
    format!("{}.", ends.join("; "))
}
