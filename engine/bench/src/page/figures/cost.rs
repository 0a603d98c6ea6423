//! What server and client cost: CPU time for each step, cores, and memory.

use std::borrow::Cow;

use crate::{
    page::{
        html::Html,
        numbers::{bytes, microseconds, quantity, short},
        plot::{DOTS, Frame, Key, LINES, dot, drawing, figure, line, x_axis, y_axis},
        scale::Scale,
        sweep::{Against, Sweep, name_of},
        text::short_name,
    },
    report::{Point, Target, Usage},
};

const MIB: f64 = 1024.0 * 1024.0;

/// How many other clients are drawn; the table has all.
const PEERS_MAX: usize = 4;

/// A curve: its name and its points.
type Curve<'a> = (Cow<'a, str>, Vec<(f64, f64)>);

/// The three figures.
pub(in crate::page) fn cost(html: &mut Html, target: &Target, sweep: &Sweep<'_>) {
    let step_of = |usage: &Usage, point: &Point| {
        if point.steps > 0 { usage.cpu_us_per_step } else { f64::NAN }
    };
    let server =
        |point: &Point| point.server.as_ref().map_or(f64::NAN, |usage| step_of(usage, point));
    let mut curves: Vec<Curve<'_>> = vec![
        ("server".into(), sweep.curve(server).collect()),
        ("Envmill".into(), sweep.curve(|point| step_of(&point.engine, point)).collect()),
    ];
    if sweep.against == Against::Sessions {
        curves.extend(target.peers.iter().take(PEERS_MAX).map(|peer| {
            let cost = peer.points.iter();
            let cost = cost.map(|point| (f64::from(point.sessions), point.client_cpu_us_per_step));
            (short_name(&peer.name), cost.collect())
        }));
    }
    let note = "CPU time, user and system, of all processes of a side.";
    let label = microseconds;
    draw(html, "CPU time of a step", note, sweep, &curves, "µs", label);

    let usage = |number: fn(&Usage) -> f64| {
        move |point: &Point| point.server.as_ref().map_or(f64::NAN, number)
    };
    let curves: [Curve<'_>; 3] = [
        ("server".into(), sweep.curve(usage(|usage| usage.cores)).collect()),
        ("Envmill".into(), sweep.curve(|point| point.engine.cores).collect()),
        (
            "the server’s busiest thread".into(),
            sweep.curve(usage(|usage| usage.busiest_thread)).collect(),
        ),
    ];
    let note = "One thread near 1 holds up all others.";
    draw(html, "Cores kept busy", note, sweep, &curves, "cores", quantity);

    let curves: [Curve<'_>; 2] = [
        ("server".into(), sweep.curve(usage(|usage| usage.rss_bytes as f64 / MIB)).collect()),
        ("Envmill".into(), sweep.curve(|point| point.engine.rss_bytes as f64 / MIB).collect()),
    ];
    let note = "Resident at the end of each point.";
    let label = |value: f64| bytes(value * MIB);
    draw(html, "Memory", note, sweep, &curves, "MiB", label);
}

fn draw(
    html: &mut Html,
    heading: &str,
    note: &str,
    sweep: &Sweep<'_>,
    curves: &[Curve<'_>],
    unit: &str,
    label: impl Fn(f64) -> String,
) {
    let frame = &Frame::SMALL;
    let is_known = |(_, points): &&Curve<'_>| points.iter().any(|(_, value)| value.is_finite());
    let drawn: Vec<(usize, &Curve<'_>)> =
        curves.iter().enumerate().filter(|(_, curve)| is_known(curve)).collect();
    let keys: Vec<Key<'_>> =
        drawn.iter().map(|(index, (name, _))| Key::line(name, LINES[look_of(*index)])).collect();
    let all: Vec<(f64, f64)> =
        drawn.iter().flat_map(|(_, curve)| curve.1.iter().copied()).collect();
    let x = Scale::spread(
        sweep.values().chain(all.iter().map(|point| point.0)),
        frame.left,
        frame.right,
    );
    let values: Vec<f64> = all.iter().map(|point| point.1).collect();
    let y = Scale::spread_or_zero(&values, frame.bottom, frame.top);
    figure(html, heading, note, &keys, |html| {
        drawing(html, "plot", frame, heading, &describe(sweep, &drawn, &label), |html| {
            y_axis(html, frame, &y, short, unit);
            let ticks: Vec<f64> = sweep.values().collect();
            x_axis(html, frame, &x, &ticks, short, sweep.against.label());
            for (index, (name, points)) in &drawn {
                let look = look_of(*index);
                line(html, LINES[look], (&x, &y), points.iter().copied());
                for point in points {
                    let tooltip = format!(
                        "{name}, {} {}: {}",
                        short(point.0),
                        sweep.against.label(),
                        label(point.1)
                    );
                    dot(html, DOTS[look], (&x, &y), *point, &tooltip);
                }
            }
        });
    });
}

/// The server has a look of its own; Envmill and others have those that they have in other figures.
const fn look_of(index: usize) -> usize {
    match index {
        0 => 5,
        other => other - 1,
    }
}

fn describe(
    sweep: &Sweep<'_>,
    drawn: &[(usize, &Curve<'_>)],
    label: &impl Fn(f64) -> String,
) -> String {
    let Some(last) = sweep.points.last() else { return String::new() };
    let parts: Vec<String> = drawn
        .iter()
        .filter_map(|(_, (name, points))| Some(format!("{name} {}", label(points.last()?.1))))
        .collect();
    format!("At the end, {}: {}.", name_of(last), parts.join(", "))
}
