//! Writing HTML and SVG so that no text can become markup.
//!
//! Names of elements and attributes, and values that are not text or numbers, are string literals of this
//! crate (`&'static str`); everything else passes [`escape`] or is a number that is finite. There is no way
//! to put a string in as it is but [`Html::style`], which takes a literal too. That is why this is not a
//! template: a page that is mostly drawings would consist of `|safe` filters.

use super::text::{escape, shortened};

/// How many characters of a text from outside are shown where it stands in a line.
const FOREIGN_CHARACTERS_MAX: usize = 240;

/// Coordinates are kept within this, so that none is ever written with an exponent.
const COORDINATE_MAX: f64 = 100_000.0;

/// A document, or a part of one, as it is written.
#[derive(Debug, Default)]
pub(super) struct Html {
    out: String,
}

/// An attribute of an element.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attribute<'a> {
    name: &'static str,
    value: Value<'a>,
}

#[derive(Clone, Copy, Debug)]
enum Value<'a> {
    Fixed(&'static str),
    Number(f64),
    Text(&'a str),
}

/// An attribute whose value is a literal.
pub(super) const fn fixed(name: &'static str, value: &'static str) -> Attribute<'static> {
    Attribute { name, value: Value::Fixed(value) }
}

/// The attribute `class`.
pub(super) const fn class(value: &'static str) -> Attribute<'static> {
    fixed("class", value)
}

/// A coordinate or a length. What is no number becomes 0.
pub(super) const fn number(name: &'static str, value: f64) -> Attribute<'static> {
    Attribute { name, value: Value::Number(value) }
}

/// An attribute whose value is any text.
pub(super) const fn text<'a>(name: &'static str, value: &'a str) -> Attribute<'a> {
    Attribute { name, value: Value::Text(value) }
}

impl Html {
    /// What was written.
    pub(super) fn into_string(self) -> String {
        self.out
    }

    /// The first line of a document.
    pub(super) fn doctype(&mut self) {
        self.out.push_str("<!DOCTYPE html>\n");
    }

    /// The stylesheet, to the byte.
    pub(super) fn style(&mut self, style: &'static str) {
        self.out.push_str("<style>");
        self.out.push_str(style);
        self.out.push_str("</style>\n");
    }

    /// An element with something in it.
    pub(super) fn element(
        &mut self,
        name: &'static str,
        attributes: &[Attribute<'_>],
        inside: impl FnOnce(&mut Self),
    ) {
        self.start(name, attributes);
        self.out.push('>');
        inside(self);
        self.out.push_str("</");
        self.out.push_str(name);
        self.out.push('>');
        // Only where a line break is no space between words.
        if !matches!(name, "a" | "b" | "bdi" | "code" | "small" | "span" | "tspan") {
            self.out.push('\n');
        }
    }

    /// An element with text in it.
    pub(super) fn leaf(&mut self, name: &'static str, attributes: &[Attribute<'_>], text: &str) {
        self.element(name, attributes, |html| html.text(text));
    }

    /// An element with nothing in it.
    pub(super) fn empty(&mut self, name: &'static str, attributes: &[Attribute<'_>]) {
        self.start(name, attributes);
        self.out.push_str("/>\n");
    }

    /// Text.
    pub(super) fn text(&mut self, text: &str) {
        escape(text, &mut self.out);
    }

    /// Text that somebody else has written, kept from turning around what stands beside it, and shortened
    /// where it is very long.
    pub(super) fn foreign(&mut self, text: &str) {
        self.element("bdi", &[], |html| html.text(&shortened(text, FOREIGN_CHARACTERS_MAX)));
    }

    /// A path through points of the drawing, as the attribute `points` of a `polyline` or `polygon`.
    pub(super) fn poly(&mut self, name: &'static str, class_: &'static str, points: &[(f64, f64)]) {
        let mut path = String::with_capacity(points.len() * 12);
        for (x, y) in points {
            if !path.is_empty() {
                path.push(' ');
            }
            path.push_str(&coordinate(*x));
            path.push(',');
            path.push_str(&coordinate(*y));
        }
        self.empty(name, &[class(class_), text("points", &path)]);
    }

    fn start(&mut self, name: &'static str, attributes: &[Attribute<'_>]) {
        self.out.push('<');
        self.out.push_str(name);
        for Attribute { name, value } in attributes {
            self.out.push(' ');
            self.out.push_str(name);
            self.out.push_str("=\"");
            match value {
                Value::Fixed(value) => self.out.push_str(value),
                Value::Number(value) => self.out.push_str(&coordinate(*value)),
                Value::Text(value) => escape(value, &mut self.out),
            }
            self.out.push('"');
        }
    }
}

/// A coordinate to a tenth of a unit.
fn coordinate(value: f64) -> String {
    let value = if value.is_nan() { 0.0 } else { value };
    let tenths = (value.clamp(-COORDINATE_MAX, COORDINATE_MAX) * 10.0).round() as i64;
    let (sign, tenths) = (if tenths < 0 { "-" } else { "" }, tenths.unsigned_abs());
    match (tenths / 10, tenths % 10) {
        (whole, 0) => format!("{sign}{whole}"),
        (whole, rest) => format!("{sign}{whole}.{rest}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_attributes_are_escaped() {
        let mut html = Html::default();
        html.element("a", &[text("href", "\"onload='x'<>&")], |html| html.text("</a><script>"));
        assert_eq!(
            html.into_string(),
            "<a href=\"&quot;onload=&#39;x&#39;&lt;&gt;&amp;\">&lt;/a&gt;&lt;script&gt;</a>"
        );
    }

    #[test]
    fn coordinates_are_plain_and_finite() {
        let written = [0.0, -0.04, 12.34, -7.25, f64::NAN, f64::INFINITY, -1e300].map(coordinate);
        assert_eq!(written, ["0", "0", "12.3", "-7.3", "0", "100000", "-100000"]);
    }
}
