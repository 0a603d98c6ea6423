//! The throughput of several targets in one drawing.

use crate::{
    page::{
        html::Html,
        numbers::{quantity, short},
        plot::{DOTS, Frame, Key, LINES, dot, drawing, figure, line, x_axis, y_axis},
        scale::Scale,
        sweep::{Against, Sweep, name_of},
        text::short_name,
    },
    report::Target,
};

/// Draws as many targets as there are looks; the table beside it has all.
pub(in crate::page) fn comparison(html: &mut Html, targets: &[Target]) {
    let sweeps: Vec<(&Target, Sweep<'_>)> = targets
        .iter()
        .filter_map(|target| {
            let sweep = Sweep::all_of(target).into_iter().next()?;
            (sweep.against == Against::Sessions && sweep.best().is_some())
                .then_some((target, sweep))
        })
        .take(LINES.len())
        .collect();
    if sweeps.is_empty() {
        return;
    }
    let keys: Vec<Key<'_>> =
        sweeps.iter().zip(LINES).map(|((target, _), look)| Key::line(&target.name, look)).collect();
    figure(html, "Throughput of all targets", "", &keys, |html| {
        draw(html, "wide", &Frame::LARGE, &sweeps);
        draw(html, "narrow", &Frame::MARKED, &sweeps);
    });
}

fn draw(html: &mut Html, look: &'static str, frame: &Frame, sweeps: &[(&Target, Sweep<'_>)]) {
    let mut xs: Vec<f64> = sweeps.iter().flat_map(|(_, sweep)| sweep.values()).collect();
    xs.sort_by(f64::total_cmp);
    xs.dedup();
    let x = Scale::spread(xs.iter().copied(), frame.left, frame.right);
    let rates = sweeps.iter().flat_map(|(_, sweep)| &sweep.points).map(|point| point.steps_per_s);
    let y = Scale::spread(rates, frame.bottom, frame.top);
    let description = "Steps a second of each target against sessions; the table has the numbers.";
    drawing(html, look, frame, "Throughput of all targets", description, |html| {
        y_axis(html, frame, &y, short, "steps/s");
        x_axis(html, frame, &x, &xs, short, Against::Sessions.label());
        for (index, (target, sweep)) in sweeps.iter().enumerate() {
            line(html, LINES[index], (&x, &y), sweep.curve(|point| point.steps_per_s));
            for point in &sweep.points {
                let tooltip = format!(
                    "{}, {}: {} steps/s",
                    short_name(&target.name),
                    name_of(point),
                    quantity(point.steps_per_s)
                );
                let at = (sweep.against.of(point), point.steps_per_s);
                dot(html, DOTS[index], (&x, &y), at, &tooltip);
            }
        }
    });
}
