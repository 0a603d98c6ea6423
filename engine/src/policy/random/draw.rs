//! Drawing: from the tree straight into a buffer.

use std::io::Write as _;

use super::{
    node::{Array, Extra, Format, Keys, Node, NodeId, Object, Presence, Span, Tree},
    rng::Rng,
};

/// Levels below which only the smallest values are drawn.
const DEPTH_MAX: u32 = 12;
/// Bytes beyond which only the smallest values are drawn.
const BYTES_MAX: usize = 4096;
/// How many more elements than its minimum an array gets at most, where it has no maximum.
pub(super) const SPARE_ELEMENTS: u32 = 3;
/// How often a set tries for another element before it makes do with fewer.
const UNIQUE_TRIES: u32 = 64;

/// A set could not be filled with different elements.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooFewValues;

pub(super) struct Drawing<'a> {
    pub(super) tree: &'a Tree,
    pub(super) rng: &'a mut Rng,
}

impl Drawing<'_> {
    /// Appends one value of the node.
    pub(super) fn root(&mut self, id: NodeId, out: &mut Vec<u8>) -> Result<(), TooFewValues> {
        self.value(id, DEPTH_MAX.max(self.tree.height(id)), out)
    }

    fn value(&mut self, id: NodeId, depth: u32, out: &mut Vec<u8>) -> Result<(), TooFewValues> {
        let depth = if out.len() > BYTES_MAX { 0 } else { depth };
        match self.tree.node(id) {
            Node::Never => out.extend_from_slice(b"null"),
            Node::Literal(text) => out.extend_from_slice(text),
            Node::Choice(texts) => out.extend_from_slice(&texts[self.rng.index(texts.len())]),
            Node::Integer { low, step, count, .. } => {
                let offset = self.rng.below(*count).wrapping_mul(*step);
                integer(low.wrapping_add_unsigned(offset), out);
            }
            Node::Number(span) => number(self.draw_number(span), out),
            Node::Multiple { of, decimals, low, count, .. } => {
                let k = low.wrapping_add_unsigned(self.rng.below(*count));
                let scale = 10f64.powi(*decimals as i32);
                number((k as f64 * of * scale).round() / scale, out);
            }
            Node::Boolean => {
                out.extend_from_slice(if self.rng.coin() { b"true" } else { b"false" });
            }
            Node::Text { min, max } => self.text(*min, *max, out),
            Node::Formatted(format) => self.formatted(*format, out),
            Node::Patterned(pattern) => put_text(&pattern.draw(self.rng), out),
            Node::Embedded(inner) => {
                let mut text = Vec::new();
                self.value(*inner, depth.saturating_sub(1), &mut text)?;
                put_text(&String::from_utf8_lossy(&text), out);
            }
            Node::Array(array) if array.unique => self.set(array, depth, out)?,
            Node::Array(array) => self.array(array, depth, out)?,
            Node::Object(object) => {
                out.push(b'{');
                self.fields(object, depth, &[], out)?;
                out.push(b'}');
            }
            Node::AnyOf { alternatives, shortest } => {
                let drawn = alternatives[self.rng.index(alternatives.len())];
                let fits = self.tree.height(drawn) < depth;
                let chosen = if fits { drawn } else { alternatives[*shortest] };
                self.value(chosen, depth.saturating_sub(1), out)?;
            }
        }
        Ok(())
    }

    /// Appends an object's members without its braces, leaving out those in `given`.
    pub(super) fn fields(
        &mut self,
        object: &Object,
        depth: u32,
        given: &[&str],
        out: &mut Vec<u8>,
    ) -> Result<(), TooFewValues> {
        let below = depth.saturating_sub(1);
        for field in &object.fields {
            let drawn = match field.presence {
                Presence::Always => true,
                Presence::Sometimes => self.rng.coin() && self.tree.height(field.node) <= below,
                Presence::Never => false,
            };
            if drawn && !given.contains(&&*field.name) {
                separate(out);
                out.extend_from_slice(&field.key);
                self.value(field.node, below, out)?;
            }
        }
        if let Some(extra) = &object.extra {
            self.extra(extra, below, out)?;
        }
        Ok(())
    }

    fn extra(&mut self, extra: &Extra, depth: u32, out: &mut Vec<u8>) -> Result<(), TooFewValues> {
        let count = self.length(extra.min, extra.max, self.tree.height(extra.node), depth);
        let listed = if let Keys::Listed(keys) = &extra.keys { &keys[..] } else { &[] };
        let first = self.rng.index(listed.len().max(1));
        let mut drawn: Vec<Vec<u8>> = Vec::new();
        let mut tries = UNIQUE_TRIES;
        for i in 0..count {
            let key = match &extra.keys {
                Keys::Digits => format!("\"{i}\":").into_bytes(),
                Keys::Listed(_) => listed[(first + i as usize) % listed.len()].to_vec(),
                Keys::Drawn(node) => {
                    let mut key = Vec::new();
                    self.value(*node, depth, &mut key)?;
                    key.push(b':');
                    while drawn.contains(&key) && tries > 0 {
                        tries -= 1;
                        key.clear();
                        self.value(*node, depth, &mut key)?;
                        key.push(b':');
                    }
                    if drawn.contains(&key) {
                        break;
                    }
                    drawn.push(key.clone());
                    key
                }
            };
            separate(out);
            out.extend_from_slice(&key);
            self.value(extra.node, depth, out)?;
        }
        if (drawn.len() as u32) < extra.min && matches!(extra.keys, Keys::Drawn(_)) {
            return Err(TooFewValues);
        }
        Ok(())
    }

    fn array(&mut self, array: &Array, depth: u32, out: &mut Vec<u8>) -> Result<(), TooFewValues> {
        let below = depth.saturating_sub(1);
        let height = self.tallest_element(array);
        let length = self.length(array.min, array.max, height, below) as usize;
        out.push(b'[');
        for i in 0..length {
            let Some(node) = array.prefix.get(i).copied().or(array.rest) else { break };
            separate(out);
            self.value(node, below, out)?;
        }
        out.push(b']');
        Ok(())
    }

    fn set(&mut self, array: &Array, depth: u32, out: &mut Vec<u8>) -> Result<(), TooFewValues> {
        let below = depth.saturating_sub(1);
        let length = self.length(array.min, array.max, self.tallest_element(array), below);
        let mut elements: Vec<Vec<u8>> = Vec::new();
        let mut tries = UNIQUE_TRIES;
        while elements.len() < length as usize && tries > 0 {
            let next = array.prefix.get(elements.len()).copied().or(array.rest);
            let Some(node) = next else { break };
            let mut element = Vec::new();
            self.value(node, below, &mut element)?;
            if elements.contains(&element) {
                tries -= 1;
            } else {
                elements.push(element);
                tries = UNIQUE_TRIES;
            }
        }
        if elements.len() < array.min as usize {
            return Err(TooFewValues);
        }
        out.push(b'[');
        for element in elements {
            separate(out);
            out.extend_from_slice(&element);
        }
        out.push(b']');
        Ok(())
    }

    fn tallest_element(&self, array: &Array) -> u32 {
        array.prefix.iter().chain(&array.rest).map(|&id| self.tree.height(id)).max().unwrap_or(0)
    }

    /// How many elements: the fewest where depth must end, else any number within bounds.
    fn length(&mut self, min: u32, max: u32, height: u32, depth: u32) -> u32 {
        if height > depth || max <= min {
            return min;
        }
        min + self.rng.below(u64::from(max - min) + 1) as u32
    }

    fn draw_number(&mut self, span: &Span) -> f64 {
        let u = self.rng.unit();
        let value = span.low * (1.0 - u) + span.high * u;
        // Rounding can reach an end that is out of bounds.
        let outside = (value <= span.low && span.open.0) || (value >= span.high && span.open.1);
        if outside { span.low / 2.0 + span.high / 2.0 } else { value.clamp(span.low, span.high) }
    }

    fn text(&mut self, min: u32, max: u32, out: &mut Vec<u8>) {
        let length = min + self.rng.below(u64::from(max - min) + 1) as u32;
        out.push(b'"');
        self.letters(length, out);
        out.push(b'"');
    }

    fn letters(&mut self, length: u32, out: &mut Vec<u8>) {
        let mut bits = 0;
        for i in 0..length {
            if i % 12 == 0 {
                bits = self.rng.next() >> 4;
            }
            out.push(b'a' + (bits % 26) as u8);
            bits /= 26;
        }
    }

    fn formatted(&mut self, format: Format, out: &mut Vec<u8>) {
        let (a, b) = (self.rng.next(), self.rng.next());
        let part = |shift: u32, bound: u64| (a >> shift) % bound;
        let date = format!("{}-{:02}-{:02}", 2000 + part(0, 20), 1 + part(8, 12), 1 + part(16, 28));
        let time = format!("{:02}:{:02}:{:02}Z", part(24, 24), part(32, 60), part(40, 60));
        let text = match format {
            Format::DateTime => format!("{date}T{time}"),
            Format::Date => date,
            Format::Time => time,
            Format::Duration => format!("PT{}S", 1 + part(0, 3600)),
            Format::Uuid => format!(
                "{:08x}-{:04x}-4{:03x}-a{:03x}-{:012x}",
                a >> 32,
                a >> 16 & 0xffff,
                a & 0xfff,
                b >> 52,
                b & 0xffff_ffff_ffff
            ),
            Format::Email => format!("u{:x}@example.org", a >> 40),
            Format::Hostname => format!("h{:x}.example.org", a >> 40),
            Format::Ipv4 => format!("192.0.2.{}", part(0, 256)),
            Format::Ipv6 => format!("2001:db8::{:x}", 1 + part(0, 0xffff)),
            Format::Ipv4Network => format!("192.0.{}.0/24", part(0, 256)),
            Format::Ipv6Network => format!("2001:db8:{:x}::/48", 1 + part(0, 0xffff)),
            Format::Uri => format!("https://example.org/{:x}", a >> 40),
            // Paths that are there on any server.
            Format::Directory => "/tmp".to_owned(),
            Format::File => "/etc/hosts".to_owned(),
            Format::Base64 => {
                out.push(b'"');
                self.letters(8, out);
                out.push(b'"');
                return;
            }
        };
        // Writing to a vector cannot fail.
        let _ = write!(out, "\"{text}\"");
    }
}

/// A comma, unless the value before is an opening brace or bracket.
pub(super) fn separate(out: &mut Vec<u8>) {
    if !matches!(out.last(), None | Some(b'{' | b'[')) {
        out.push(b',');
    }
}

fn integer(value: i64, out: &mut Vec<u8>) {
    if (0..10).contains(&value) {
        out.push(b'0' + value as u8);
    } else {
        let _ = write!(out, "{value}");
    }
}

fn put_text(text: &str, out: &mut Vec<u8>) {
    // Writing to a vector cannot fail.
    let _ = serde_json::to_writer(out, text);
}

fn number(value: f64, out: &mut Vec<u8>) {
    // Finite by construction; writing to a vector cannot fail.
    let _ = serde_json::to_writer(out, &value);
}
