//! Reasoning is not part of an action.

use std::borrow::Cow;

/// The tags around it.
#[derive(Debug)]
pub(super) struct Reasoning(pub(super) [String; 2]);

impl Reasoning {
    /// The text without reasoning. It may have begun in the prompt, so that only its end is there; what
    /// comes before that end goes, too. `None` if it begins and does not end.
    pub(super) fn cut<'a>(&self, text: &'a str) -> Option<Cow<'a, str>> {
        let [open, close] = &self.0;
        if open.is_empty()
            || close.is_empty()
            || !(text.contains(&**open) || text.contains(&**close))
        {
            return Some(text.into());
        }
        let mut out = String::new();
        let mut rest = text;
        // Where the next tags are. One that was not found will not be; one that is ahead stays there.
        let [mut start, mut end] = [Some(0), Some(0)];
        loop {
            let at = text.len() - rest.len();
            start = start.and_then(|start| {
                if at > start || at == 0 { find(text, at, open) } else { Some(start) }
            });
            end = end.and_then(
                |end| if at > end || at == 0 { find(text, at, close) } else { Some(end) },
            );
            match (start, end) {
                (None, None) => break,
                (Some(start), None) => {
                    // What was said before it may be an action all the same.
                    out.push_str(&text[at..start]);
                    return (!out.trim().is_empty()).then_some(out.into());
                }
                (Some(start), Some(end)) if start < end => {
                    out.push_str(&text[at..start]);
                    rest = &text[end + close.len()..];
                }
                (_, Some(end)) => {
                    out.clear();
                    rest = &text[end + close.len()..];
                }
            }
        }
        out.push_str(rest);
        Some(out.into())
    }
}

fn find(text: &str, from: usize, tag: &str) -> Option<usize> {
    text[from..].find(tag).map(|at| from + at)
}
