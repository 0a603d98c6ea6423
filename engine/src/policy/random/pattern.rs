//! Strings that match a regular expression.

use regex::{Regex, RegexBuilder};
use regex_syntax::{
    Parser,
    hir::{Class, Hir, HirKind, Repetition},
};

use super::rng::Rng;

/// How many repetitions above the fewest are drawn where the pattern and the lengths set no end.
const SPARE_REPETITIONS: u32 = 3;
/// The longest string that is drawn, in bytes, and what a compiled pattern may take, also in bytes:
/// bounds what a hostile schema can ask for.
const BYTES_MAX: usize = 4096;
const COMPILED_BYTES_MAX: usize = 1 << 20;
/// How often a string that misses the lengths or a lookaround is drawn again.
const TRIES: u32 = 100;
/// How many strings are kept from the time of compilation, for the rare turn that finds none.
const KEPT: usize = 8;

/// Draws strings that match a pattern and lie within lengths, which count characters.
#[derive(Debug)]
pub(super) struct Pattern {
    shape: Hir,
    /// `None` where the pattern looks around, which this dialect (pydantic's own) cannot check.
    check: Option<Regex>,
    min: usize,
    max: usize,
    kept: Vec<String>,
}

impl Pattern {
    /// Compiles a pattern. `None` where it is none, is too large, or no string of these lengths was
    /// found to match it.
    pub(super) fn new(pattern: &str, min: u64, max: u64) -> Option<Self> {
        let (shape, check) = match Parser::new().parse(pattern) {
            Ok(shape) => {
                let check = RegexBuilder::new(pattern).size_limit(COMPILED_BYTES_MAX).build();
                (shape, Some(check.ok()?))
            }
            Err(_) => (Parser::new().parse(&without_lookaround(pattern)?).ok()?, None),
        };
        let mut new = Self {
            shape,
            check,
            min: usize::try_from(min).ok().filter(|&min| min <= BYTES_MAX)?,
            max: usize::try_from(max).unwrap_or(usize::MAX),
            kept: Vec::new(),
        };
        for seed in 0..KEPT as u64 {
            let found = new.try_draw(&mut Rng::for_turn(seed, 0));
            new.kept.extend(found);
        }
        (!new.kept.is_empty()).then_some(new)
    }

    /// One string.
    pub(super) fn draw(&self, rng: &mut Rng) -> String {
        self.try_draw(rng)
            .or_else(|| self.kept.get(rng.index(self.kept.len())).cloned())
            .unwrap_or_default()
    }

    fn try_draw(&self, rng: &mut Rng) -> Option<String> {
        for _ in 0..TRIES {
            let mut text = String::new();
            self.append(&self.shape, rng, &mut text);
            let missing = self.min.saturating_sub(text.chars().count());
            // Without anchors, more letters do no harm; with them the check says so.
            text.extend((0..missing).map(|_| letter(rng)));
            if self.admits(&text) {
                return Some(text);
            }
        }
        None
    }

    fn admits(&self, text: &str) -> bool {
        let length = text.chars().count();
        (self.min..=self.max).contains(&length)
            && self.check.as_ref().is_none_or(|check| check.is_match(text))
    }

    fn append(&self, shape: &Hir, rng: &mut Rng, out: &mut String) {
        if out.len() > BYTES_MAX {
            return;
        }
        match shape.kind() {
            // Anchors and word boundaries are left to the check.
            HirKind::Empty | HirKind::Look(_) => {}
            HirKind::Literal(literal) => out.push_str(&String::from_utf8_lossy(&literal.0)),
            HirKind::Class(class) => out.extend(character(class, rng)),
            HirKind::Repetition(repetition) => {
                for _ in 0..self.count(repetition, rng) {
                    self.append(&repetition.sub, rng, out);
                }
            }
            HirKind::Capture(capture) => self.append(&capture.sub, rng, out),
            HirKind::Concat(parts) => parts.iter().for_each(|part| self.append(part, rng, out)),
            HirKind::Alternation(parts) => {
                if let Some(part) = parts.get(rng.index(parts.len())) {
                    self.append(part, rng, out);
                }
            }
        }
    }

    /// How many repetitions: enough of them for the least length to be reached by one alone.
    fn count(&self, repetition: &Repetition, rng: &mut Rng) -> u32 {
        let fewest = repetition.min;
        let wanted = u32::try_from(self.min).unwrap_or(u32::MAX).max(fewest);
        let most = repetition.max.unwrap_or(u32::MAX);
        let most = most.min(wanted.saturating_add(SPARE_REPETITIONS)).max(fewest);
        let count = fewest + rng.below(u64::from(most - fewest) + 1) as u32;
        count.min(BYTES_MAX as u32)
    }
}

/// A character of the class, a plain one where there is any.
fn character(class: &Class, rng: &mut Rng) -> Option<char> {
    let ranges: Vec<(u32, u32)> = match class {
        Class::Unicode(class) => {
            class.iter().map(|range| (range.start().into(), range.end().into())).collect()
        }
        Class::Bytes(class) => {
            class.iter().map(|range| (range.start().into(), range.end().into())).collect()
        }
    };
    let within = |low: u32, high: u32| -> Vec<(u32, u32)> {
        let cut = ranges.iter().map(|&(start, end)| (start.max(low), end.min(high)));
        cut.filter(|(start, end)| start <= end).collect()
    };
    // Letters, digits and punctuation, then a space, then whatever the class holds.
    for (low, high) in [(0x21, 0x7e), (0x20, 0x7e), (0, 0x10_ffff)] {
        let ranges = within(low, high);
        let total: u64 = ranges.iter().map(|(start, end)| u64::from(end - start) + 1).sum();
        let mut left = rng.below(total);
        for (start, end) in ranges {
            let length = u64::from(end - start) + 1;
            if left < length {
                return char::from_u32(start + left as u32).or_else(|| char::from_u32(start));
            }
            left -= length;
        }
    }
    None
}

fn letter(rng: &mut Rng) -> char {
    char::from(b'a' + rng.below(26) as u8)
}

/// The pattern without its lookaheads and lookbehinds; `None` where their parentheses do not match.
fn without_lookaround(pattern: &str) -> Option<String> {
    let mut left = pattern.to_owned();
    for opening in ["(?=", "(?!", "(?<=", "(?<!"] {
        while let Some(start) = left.find(opening) {
            let mut depth = 0;
            let mut escaped = false;
            let end = left[start..].char_indices().find_map(|(at, character)| {
                match character {
                    _ if escaped => escaped = false,
                    '\\' => escaped = true,
                    '(' => depth += 1,
                    ')' => depth -= 1,
                    _ => {}
                }
                (depth == 0).then_some(start + at + character.len_utf8())
            })?;
            left.replace_range(start..end, "");
        }
    }
    Some(left)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(pattern: &str, min: u64, max: u64) -> Vec<String> {
        let compiled = Pattern::new(pattern, min, max).unwrap_or_else(|| panic!("{pattern}"));
        (0..50).map(|step| compiled.draw(&mut Rng::for_turn(1, step))).collect()
    }

    #[test]
    fn what_is_drawn_matches() {
        for (pattern, min, max) in [
            ("^[a-h][1-8][a-h][1-8][qrbn]?$", 0, u64::MAX),
            (r"^\d{3}-\d{4}$", 8, 8),
            ("[A-H][1-8]", 5, 6),
            (r"\bword\b", 0, u64::MAX),
            ("^a*$", 3, 6),
            (r"^[^\s]+$", 20, 20),
            (r"^\p{Greek}{2,}$", 0, 4),
            ("", 0, u64::MAX),
            ("(?i)^(yes|no)$", 0, u64::MAX),
        ] {
            let check = Regex::new(pattern).unwrap();
            for text in drawn(pattern, min, max) {
                assert!(check.is_match(&text), "{pattern}: {text:?}");
                let length = text.chars().count() as u64;
                assert!((min..=max).contains(&length), "{pattern}: {text:?}");
            }
        }
    }

    #[test]
    fn lookarounds_are_left_out() {
        let texts = drawn("^(?=.*[a-z])(?!x\\))[a-z]{2}$", 0, u64::MAX);
        assert!(texts.iter().all(|text| text.len() == 2), "{texts:?}");
    }

    #[test]
    fn what_cannot_be_drawn_is_said_at_once() {
        for (pattern, min, max) in
            [("(", 0, 9), ("^a$", 2, 9), ("(a{1000}){1000}{1000}", 0, 9), ("(?=", 0, 9)]
        {
            assert!(Pattern::new(pattern, min, max).is_none(), "{pattern}");
        }
    }
}
