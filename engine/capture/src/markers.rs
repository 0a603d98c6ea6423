//! Finding texts in text that comes in pieces.

/// Where the first of some markers is in a text that may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// Here, and this one.
    At(usize, usize),
    /// Nowhere in the first so many bytes. What is behind them may be the beginning of one.
    NotIn(usize),
}

/// Looks for markers, none of which is empty.
pub(crate) fn find<T: AsRef<str>>(text: &str, markers: &[T]) -> Found {
    let at = |(index, marker): (usize, &T)| text.find(marker.as_ref()).map(|at| (at, index));
    if let Some((at, index)) = markers.iter().enumerate().filter_map(at).min() {
        return Found::At(at, index);
    }
    let begins = |marker: &T| {
        let longest = marker.as_ref().len().saturating_sub(1).min(text.len());
        let tail = (1..=longest).rev().map(|len| text.len() - len);
        tail.filter_map(|at| text.get(at..)).find(|tail| marker.as_ref().starts_with(tail))
    };
    let held = markers.iter().filter_map(begins).map(str::len).max().unwrap_or(0);
    Found::NotIn(text.len() - held)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_become_a_marker_is_held() {
        let markers = ["<think>", "<tool"];
        assert_eq!(find("a <think> b", &markers), Found::At(2, 0));
        assert_eq!(find("<tool><think>", &markers), Found::At(0, 1));
        assert_eq!(find("a <t", &markers), Found::NotIn(2));
        assert_eq!(find("a <thing", &markers), Found::NotIn(8));
        assert_eq!(find("é", &["é"; 0]), Found::NotIn(2));
        assert_eq!(find("ü<", &["<é"]), Found::NotIn(2));
    }
}
