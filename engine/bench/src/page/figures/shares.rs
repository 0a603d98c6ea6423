//! Where the time of sessions went, as stacked bars.

use crate::{
    page::{
        html::Html,
        numbers::{percent, short},
        plot::{Frame, Key, drawing, figure, label_at, rectangle, y_axis},
        scale::Scale,
        sweep::{Sweep, name_of},
    },
    report::Where,
};

/// The part of a bar's place that it fills.
const FILLED: f64 = 0.78;

/// A part of the time: its name, how it is drawn, and its share.
type Part = (&'static str, &'static str, fn(&Where) -> f64);

const PARTS: [Part; 5] = [
    ("steps", "area a1", |share| share.step),
    ("resets", "area a2", |share| share.reset),
    ("connecting", "area a3", |share| share.connect),
    ("this client", "area a4", |share| share.client),
    ("idle", "area a5", |share| share.idle),
];

/// The figure.
pub(in crate::page) fn shares(html: &mut Html, sweep: &Sweep<'_>) {
    let frame = &Frame::SMALL;
    let heading = "Where sessions’ time went";
    let note = "Shares of the time of all sessions: waiting for the target, or for this client.";
    let keys = PARTS.map(|(name, look, _)| Key::area(name, look));
    let y = Scale::between(0.0, 1.0, frame.bottom, frame.top);
    figure(html, heading, note, &keys, |html| {
        drawing(html, "plot", frame, heading, &describe(sweep), |html| {
            y_axis(html, frame, &y, percent, "");
            let place = (frame.right - frame.left) / sweep.points.len() as f64;
            let names: Vec<String> =
                sweep.points.iter().map(|point| short(sweep.against.of(point))).collect();
            let widest = names.iter().map(|name| name.chars().count()).max().unwrap_or(1);
            let every = ((widest as f64 + 1.0) * 6.6 / place).ceil().max(1.0) as usize;
            for (index, point) in sweep.points.iter().enumerate() {
                let x = frame.left + place * (index as f64 + (1.0 - FILLED) / 2.0);
                let mut below = 0.0;
                for (name, look, of) in PARTS {
                    let share = clean(of(&point.share_of_time)).min(1.0 - below);
                    let (Some(top), Some(bottom)) = (y.at(below + share), y.at(below)) else {
                        continue;
                    };
                    below += share;
                    if share > 0.0 {
                        let tooltip = format!("{}: {name} {}", name_of(point), percent(share));
                        rectangle(html, look, (x, top), (place * FILLED, bottom - top), &tooltip);
                    }
                }
                if index % every == 0 {
                    let middle = x + place * FILLED / 2.0;
                    label_at(html, "tick middle", middle, frame.bottom + 17.0, &names[index]);
                }
            }
            label_at(html, "unit end", frame.right, frame.bottom + 33.0, sweep.against.label());
        });
    });
}

fn clean(share: f64) -> f64 {
    if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 }
}

fn describe(sweep: &Sweep<'_>) -> String {
    let Some(last) = sweep.points.last() else { return String::new() };
    let parts: Vec<String> = PARTS
        .iter()
        .map(|(name, _, of)| format!("{name} {}", percent(clean(of(&last.share_of_time)))))
        .collect();
    format!("{}: {}.", name_of(last), parts.join(", "))
}
