//! Points as they went: steps a second, latency and sessions over time.

use crate::{
    page::{
        html::{Html, class},
        numbers::{count, short},
        plot::{Frame, Key, drawing, figure, label_at, line, rectangle, x_axis, y_axis},
        scale::Scale,
        sweep::name_of,
    },
    report::{Point, Tick},
};

/// How many pieces a time line has at the most; where there are more ticks, some share one.
const PIECES_MAX: usize = 160;

/// How many of a target's points have a time line.
const POINTS_MAX: usize = 48;

/// A part of a time line.
struct Piece {
    from_s: f64,
    to_s: f64,
    warm_up: bool,
    steps_per_s: f64,
    failures: u64,
    p50_ms: f64,
    p99_ms: f64,
    sessions: f64,
}

/// The time lines of the chosen points, and those of the others behind a fold.
pub(in crate::page) fn timelines(html: &mut Html, points: &[&Point], chosen: &[&Point]) {
    let has_ticks = |point: &&&Point| !point.timeline.is_empty();
    let chosen: Vec<&Point> = chosen.iter().filter(has_ticks).copied().collect();
    let is_chosen = |point: &Point| chosen.iter().any(|other| std::ptr::eq(*other, point));
    let others: Vec<&Point> =
        points.iter().filter(has_ticks).filter(|point| !is_chosen(point)).copied().collect();
    if chosen.is_empty() {
        return;
    }
    html.leaf("h3", &[], "As it went");
    html.element("div", &[class("figures")], |html| {
        for point in &chosen {
            timeline(html, point);
        }
    });
    if others.is_empty() {
        return;
    }
    html.element("details", &[], |html| {
        let summary = match others.len() {
            1 => "The other point".to_owned(),
            n if n > POINTS_MAX => format!("The first {POINTS_MAX} of the {n} other points"),
            n => format!("The {n} other points"),
        };
        html.leaf("summary", &[], &summary);
        html.element("div", &[class("figures")], |html| {
            for point in others.iter().take(POINTS_MAX) {
                timeline(html, point);
            }
        });
    });
}

fn timeline(html: &mut Html, point: &Point) {
    let pieces = pieces(&point.timeline);
    let whole =
        Frame { width: 340.0, height: 336.0, left: 46.0, right: 332.0, top: 22.0, bottom: 298.0 };
    let panel = |top: f64, bottom: f64| Frame { top, bottom, ..whole };
    let (rate, latency, sessions) = (panel(22.0, 122.0), panel(150.0, 236.0), panel(264.0, 298.0));

    let end = pieces.iter().map(|piece| piece.to_s).fold(0.0, f64::max);
    let x = Scale::between(0.0, end, whole.left, whole.right);
    let failed: u64 = pieces.iter().map(|piece| piece.failures).fold(0, u64::saturating_add);
    let has_warm_up = pieces.iter().any(|piece| piece.warm_up);

    let mut keys = vec![Key::line("p50", "line s2"), Key::line("p99", "line s3")];
    if has_warm_up {
        keys.push(Key::area("warm-up", "warm-up"));
    }
    if failed > 0 {
        keys.push(Key::area("failures", "failures"));
    }
    let name = name_of(point);
    let heading = if failed > 0 { format!("{name}, {} failures", count(failed)) } else { name };
    figure(html, &heading, "", &keys, |html| {
        let description = "Steps a second, latency and sessions over the time of the point.";
        drawing(html, "plot", &whole, &heading, description, |html| {
            for piece in pieces.iter().filter(|piece| piece.warm_up) {
                let (Some(from), Some(to)) = (x.at(piece.from_s), x.at(piece.to_s)) else {
                    continue;
                };
                let size = (to - from, whole.bottom - whole.top);
                rectangle(html, "warm-up", (from, whole.top), size, "");
            }
            let y = Scale::from_zero(pieces.iter().map(|p| p.steps_per_s), rate.bottom, rate.top);
            curve(html, &rate, (&x, &y), "steps/s", "line s1", &pieces, |piece| piece.steps_per_s);
            failures(html, &rate, &x, &pieces);

            let values = pieces.iter().flat_map(|piece| [piece.p50_ms, piece.p99_ms]);
            let y = Scale::from_zero(values, latency.bottom, latency.top);
            curve(html, &latency, (&x, &y), "ms", "line s3", &pieces, |piece| piece.p99_ms);
            let medians = pieces.iter().map(|piece| (middle(piece), piece.p50_ms));
            line(html, "line s2", (&x, &y), medians);

            let y =
                Scale::from_zero(pieces.iter().map(|p| p.sessions), sessions.bottom, sessions.top);
            curve(html, &sessions, (&x, &y), "sessions", "line s6", &pieces, |piece| {
                piece.sessions
            });
            x_axis(html, &whole, &x, &x.ticks(6), short, "seconds");
        });
    });
}

fn curve(
    html: &mut Html,
    frame: &Frame,
    (x, y): (&Scale, &Scale),
    unit: &str,
    look: &'static str,
    pieces: &[Piece],
    of: impl Fn(&Piece) -> f64,
) {
    if frame.bottom - frame.top > 60.0 {
        y_axis(html, frame, y, short, unit);
    } else {
        label_at(html, "unit", 0.0, frame.top - 10.0, unit);
        let high = pieces.iter().map(&of).filter(|value| value.is_finite()).fold(0.0, f64::max);
        for value in [0.0, high] {
            let Some(place) = y.at(value) else { continue };
            html.poly("polyline", "grid", &[(frame.left, place), (frame.right, place)]);
            label_at(html, "tick end", frame.left - 6.0, place + 4.0, &short(value));
        }
    }
    line(html, look, (x, y), pieces.iter().map(|piece| (middle(piece), of(piece))));
}

/// Failures, marked at the foot of the steps.
fn failures(html: &mut Html, frame: &Frame, x: &Scale, pieces: &[Piece]) {
    for piece in pieces.iter().filter(|piece| piece.failures > 0) {
        let Some(place) = x.at(middle(piece)) else { continue };
        let tooltip = format!("{} failures at {} s", count(piece.failures), short(piece.from_s));
        rectangle(html, "failures", (place - 1.5, frame.bottom - 9.0), (3.0, 9.0), &tooltip);
    }
}

fn middle(piece: &Piece) -> f64 {
    piece.from_s.midpoint(piece.to_s)
}

fn pieces(ticks: &[Tick]) -> Vec<Piece> {
    let share = ticks.len().div_ceil(PIECES_MAX).max(1);
    ticks
        .chunks(share)
        .filter_map(|ticks| {
            let (first, last) = (ticks.first()?, ticks.last()?);
            let steps: f64 = ticks.iter().map(|tick| tick.steps as f64).sum();
            let width: f64 = ticks.iter().map(|tick| tick.width_s).sum();
            let largest = |of: fn(&Tick) -> f64| ticks.iter().map(of).fold(f64::NAN, f64::max);
            let measured = |value: f64| if steps > 0.0 { value } else { f64::NAN };
            Some(Piece {
                from_s: first.at_s,
                to_s: last.at_s + last.width_s,
                warm_up: last.warm_up,
                steps_per_s: steps / width,
                failures: ticks.iter().map(|tick| tick.failures).fold(0, u64::saturating_add),
                p50_ms: measured(largest(|tick| tick.p50_ms)),
                p99_ms: measured(largest(|tick| tick.p99_ms)),
                sessions: f64::from(last.sessions),
            })
        })
        .collect()
}
