//! What a template puts behind the model's words, and whether it leaves the past as it was.

use crate::Why;

/// Stands for the model's words where only what comes behind them matters.
pub(crate) const SENTINEL: &str = "Envmill7Sentinel";

/// How the template's text compares to what was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is the same, character by character.
    Same,
    /// Only whitespace around the model's words differs.
    Whitespace,
    /// Something else differs.
    Rewritten(Why),
}

/// Compares the text of a prompt with the text of the next one. What lies between them should be the
/// model's words, and then what the template puts behind them, which is given back.
pub(crate) fn compare<'a>(before: &str, after: &'a str, words: &str) -> (Verdict, Option<&'a str>) {
    let Some(rest) = after.strip_prefix(before) else {
        return (Verdict::Rewritten(Why::Past), None);
    };
    if let Some(delta) = rest.strip_prefix(words) {
        return (Verdict::Same, Some(delta));
    }
    match rest.trim_start().strip_prefix(words.trim()) {
        Some(delta) => (Verdict::Whitespace, Some(delta)),
        None => (Verdict::Rewritten(Why::Words), None),
    }
}

/// What stands behind the model's words in a rendering.
pub(crate) fn behind(rendered: &str) -> Option<&str> {
    rendered.rsplit_once(SENTINEL).map(|(_, behind)| behind)
}

/// A text that was put together piece by piece, without the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    bytes: usize,
    hash: u64,
}

impl Seen {
    pub(crate) fn of(text: &str) -> Self {
        let mut seen = Self { bytes: 0, hash: 0xcbf2_9ce4_8422_2325 };
        seen.push(text);
        seen
    }

    /// FNV-1a, which does not care where pieces end.
    pub(crate) fn push(&mut self, text: &str) {
        self.bytes += text.len();
        for byte in text.bytes() {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}
