//! Reasoning is not part of an action.

use std::borrow::Cow;

/// The tags around reasoning: what begins it, and what ends it. Empty ones are around none.
#[derive(Clone, Debug)]
pub struct Reasoning(pub [String; 2]);

impl Reasoning {
    /// Whether a text ends in the midst of reasoning.
    #[must_use]
    pub fn is_open(&self, text: &str) -> bool {
        let [open, close] = &self.0;
        if open.is_empty() || close.is_empty() {
            return false;
        }
        text.rfind(&**open).is_some_and(|at| !text[at..].contains(&**close))
    }

    /// The text without reasoning. It may have begun in the prompt, so that only its end is there; what
    /// comes before that end goes, too. `None` if it begins and does not end.
    #[must_use]
    pub fn cut<'a>(&self, text: &'a str) -> Option<Cow<'a, str>> {
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

impl Default for Reasoning {
    /// `<think>` and `</think>`, as most models have it.
    fn default() -> Self {
        Self(["<think>", "</think>"].map(str::to_owned))
    }
}

fn find(text: &str, from: usize, tag: &str) -> Option<usize> {
    text[from..].find(tag).map(|at| from + at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasoning_is_open_from_its_last_beginning_on() {
        let tags = Reasoning::default();
        for (text, is_open) in [
            ("", false),
            ("<think>", true),
            ("a<think>b", true),
            ("<think>b</think>c", false),
            ("b</think>c", false),
            ("<think>b</think>c<think>", true),
        ] {
            assert_eq!(tags.is_open(text), is_open, "{text}");
        }
        assert!(!Reasoning([String::new(), String::new()]).is_open("<think>"));
    }
}
