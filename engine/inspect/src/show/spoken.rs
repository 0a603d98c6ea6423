//! Tokens as text.

use super::{FOLDED_BYTES, Page, conversation::SAMPLED};
use crate::escaped;

/// Says what token ids mean.
pub trait TokenText {
    /// The text of ids as it stands behind others.
    fn text(&self, ids: &[u32]) -> String;
}

impl Page<'_> {
    /// What tokens say, if it is known: runs of those that are to be trained on, and of others, each from a new
    /// line. `mask` has 1 for the former; what is missing of it is 0.
    pub(super) fn spoken(&mut self, ids: &[u32], mask: &[u8]) {
        let Some(tokenizer) = self.show.tokenizer else { return };
        let is_trained = |at: usize| mask.get(at).is_some_and(|mask| *mask > 0);
        let mut start = 0;
        while start < ids.len() {
            let trained = is_trained(start);
            let run = (start..ids.len()).take_while(|&at| is_trained(at) == trained).count();
            let text = tokenizer.text(&ids[start..start + run]);
            self.run(&text, trained);
            start += run;
        }
    }

    /// Lines of text stay lines.
    fn run(&mut self, text: &str, trained: bool) {
        let (shown, rest) = match text.len() {
            most if !self.show.full && most > FOLDED_BYTES => {
                let end = text.floor_char_boundary(FOLDED_BYTES);
                (&text[..end], format!("…({most} bytes)"))
            }
            _ => (text, String::new()),
        };
        let count = shown.lines().count();
        for (index, line) in shown.lines().enumerate() {
            let mark = if trained { SAMPLED } else { " " };
            let rest = if index + 1 == count { &rest[..] } else { "" };
            let line = format!("  {mark} {}{rest}", escaped(line));
            let line = if trained { self.show.paint.good(line) } else { line };
            self.line("", line.trim_end());
        }
    }
}
