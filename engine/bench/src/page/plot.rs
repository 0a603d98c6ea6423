//! What drawings have in common: the frame, its axes, lines, dots, marks, and the key above them.
//!
//! Colours, dashes and sizes of text are the stylesheet's. A drawing is as wide in its own units as it is
//! on a phone, more or less, so that text has its size everywhere.

use super::{
    html::{Attribute, Html, class, fixed, number, text},
    scale::Scale,
};

/// How far names of ticks along the x axis are apart at the least.
const X_TICK_GAP: f64 = 34.0;

/// About how wide a character is.
const CHARACTER_WIDTH: f64 = 6.4;

/// Where a drawing's axes are, in its units.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame {
    pub(super) width: f64,
    pub(super) height: f64,
    pub(super) left: f64,
    pub(super) right: f64,
    pub(super) top: f64,
    pub(super) bottom: f64,
}

impl Frame {
    /// A drawing beside others, or on a phone.
    pub(super) const SMALL: Self =
        Self { width: 340.0, height: 230.0, left: 46.0, right: 332.0, top: 22.0, bottom: 192.0 };

    /// A small one with room for marks above it.
    pub(super) const MARKED: Self =
        Self { width: 340.0, height: 262.0, left: 46.0, right: 332.0, top: 46.0, bottom: 224.0 };

    /// The large one, on everything wider than a phone.
    pub(super) const LARGE: Self =
        Self { width: 720.0, height: 400.0, left: 50.0, right: 708.0, top: 46.0, bottom: 360.0 };
}

/// An entry of the key above a drawing.
#[derive(Clone, Debug)]
pub(super) struct Key<'a> {
    /// What it stands for.
    pub(super) label: &'a str,
    /// How that is drawn: a class of lines, or of areas.
    pub(super) look: &'static str,
    /// Whether it is an area.
    pub(super) is_area: bool,
}

impl<'a> Key<'a> {
    /// A line.
    pub(super) const fn line(label: &'a str, look: &'static str) -> Self {
        Self { label, look, is_area: false }
    }

    /// An area.
    pub(super) const fn area(label: &'a str, look: &'static str) -> Self {
        Self { label, look, is_area: true }
    }
}

/// The looks of lines, which differ in colour and in their dashes.
pub(super) const LINES: [&str; 6] =
    ["line s1", "line s2", "line s3", "line s4", "line s5", "line s6"];

/// The looks of dots, in the colours of [`LINES`].
pub(super) const DOTS: [&str; 6] = ["dot s1", "dot s2", "dot s3", "dot s4", "dot s5", "dot s6"];

/// A figure: a heading, what is to be seen in a sentence, the key, and what `inside` draws.
pub(super) fn figure(
    html: &mut Html,
    heading: &str,
    note: &str,
    keys: &[Key<'_>],
    inside: impl FnOnce(&mut Html),
) {
    html.element("figure", &[], |html| {
        html.element("figcaption", &[], |html| {
            html.leaf("h4", &[], heading);
            if !note.is_empty() {
                html.leaf("p", &[], note);
            }
            key(html, keys);
        });
        inside(html);
    });
}

fn key(html: &mut Html, keys: &[Key<'_>]) {
    if keys.is_empty() {
        return;
    }
    html.element("ul", &[class("key")], |html| {
        for key in keys {
            html.element("li", &[], |html| {
                let hidden = fixed("aria-hidden", "true");
                let size = [fixed("viewBox", "0 0 22 10"), hidden, class("swatch")];
                html.element("svg", &size, |html| {
                    if key.is_area {
                        rectangle(html, key.look, (4.0, 0.0), (14.0, 10.0), "");
                    } else {
                        html.poly("polyline", key.look, &[(0.0, 5.0), (22.0, 5.0)]);
                    }
                });
                html.foreign(key.label);
            });
        }
    });
}

/// A drawing, which is one picture to those who cannot see it: `title` and `description` say it.
pub(super) fn drawing(
    html: &mut Html,
    look: &'static str,
    frame: &Frame,
    title: &str,
    description: &str,
    inside: impl FnOnce(&mut Html),
) {
    let view = format!("0 0 {:.0} {:.0}", frame.width, frame.height);
    let attributes =
        [class(look), text("viewBox", &view), fixed("role", "img"), text("aria-label", title)];
    html.element("svg", &attributes, |html| {
        html.leaf("title", &[], title);
        html.leaf("desc", &[], description);
        inside(html);
    });
}

/// The x axis, with ticks at `values`, as far as they have room.
pub(super) fn x_axis(
    html: &mut Html,
    frame: &Frame,
    scale: &Scale,
    values: &[f64],
    name: impl Fn(f64) -> String,
    label: &str,
) {
    html.poly("polyline", "axis", &[(frame.left, frame.bottom), (frame.right, frame.bottom)]);
    let widest = values.iter().map(|value| name(*value).chars().count()).max().unwrap_or(0);
    let gap = (widest as f64 + 1.5) * CHARACTER_WIDTH;
    for value in scale.thinned(values, gap.max(X_TICK_GAP * 0.7)) {
        let Some(x) = scale.at(value) else { continue };
        html.poly("polyline", "axis", &[(x, frame.bottom), (x, frame.bottom + 4.0)]);
        label_at(html, "tick middle", x, frame.bottom + 17.0, &name(value));
    }
    label_at(html, "unit end", frame.right, frame.bottom + 33.0, label);
}

/// The y axis with its grid.
pub(super) fn y_axis(
    html: &mut Html,
    frame: &Frame,
    scale: &Scale,
    name: impl Fn(f64) -> String,
    label: &str,
) {
    let about = (((frame.bottom - frame.top) / 30.0) as usize).clamp(3, 8);
    for value in scale.ticks(about) {
        let Some(y) = scale.at(value) else { continue };
        html.poly("polyline", "grid", &[(frame.left, y), (frame.right, y)]);
        label_at(html, "tick end", frame.left - 6.0, y + 4.0, &name(value));
    }
    label_at(html, "unit", 0.0, frame.top - 10.0, label);
}

/// A line through the points that can be drawn.
pub(super) fn line(
    html: &mut Html,
    look: &'static str,
    (x, y): (&Scale, &Scale),
    points: impl Iterator<Item = (f64, f64)>,
) {
    let points: Vec<(f64, f64)> =
        points.filter_map(|point| Some((x.at(point.0)?, y.at(point.1)?))).collect();
    if points.len() > 1 {
        html.poly("polyline", look, &points);
    }
}

/// A dot that tells what it stands for when it is pointed at.
pub(super) fn dot(
    html: &mut Html,
    look: &'static str,
    (x, y): (&Scale, &Scale),
    point: (f64, f64),
    tooltip: &str,
) {
    let (Some(cx), Some(cy)) = (x.at(point.0), y.at(point.1)) else { return };
    let attributes = [class(look), number("cx", cx), number("cy", cy), number("r", 3.2)];
    html.element("circle", &attributes, |html| html.leaf("title", &[], tooltip));
}

/// A line across the whole height with a word above it; `row` 0 is the upper of two.
pub(super) fn mark(
    html: &mut Html,
    look: &'static str,
    frame: &Frame,
    x: Option<f64>,
    row: u8,
    word: &str,
) {
    let Some(x) = x else { return };
    let y = if row == 0 { frame.top - 28.0 } else { frame.top - 10.0 };
    html.poly("polyline", look, &[(x, y + 4.0), (x, frame.bottom)]);
    let half = word.chars().count() as f64 * CHARACTER_WIDTH / 2.0;
    let place =
        x.clamp(frame.left + half + 30.0, (frame.right - half).max(frame.left + half + 30.0));
    label_at(html, "mark-word middle", place, y, word);
}

/// A rectangle from its upper left corner and its size, with a tooltip unless that is empty.
pub(super) fn rectangle(
    html: &mut Html,
    look: &'static str,
    (x, y): (f64, f64),
    (width, height): (f64, f64),
    tooltip: &str,
) {
    let attributes = [
        class(look),
        number("x", x),
        number("y", y),
        number("width", width.max(0.0)),
        number("height", height.max(0.0)),
    ];
    if tooltip.is_empty() {
        html.empty("rect", &attributes);
    } else {
        html.element("rect", &attributes, |html| html.leaf("title", &[], tooltip));
    }
}

/// Text in a drawing.
pub(super) fn label_at(html: &mut Html, look: &'static str, x: f64, y: f64, words: &str) {
    let attributes: [Attribute<'_>; 3] = [class(look), number("x", x), number("y", y)];
    html.leaf("text", &attributes, words);
}
