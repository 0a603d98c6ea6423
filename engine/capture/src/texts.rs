//! Requests, of which each is kept as what it has that a later one does not.

use std::{collections::VecDeque, ops::Range};

use bytes::Bytes;

use crate::Kept;

/// So many of the latest texts that no other has continued are compared with a new one: as many conversations
/// may go on side by side.
const HEADS_MAX: usize = 16;

/// Texts in the order in which they came. In a conversation each request has the one before it in it, so that
/// all together take about what the last takes.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Texts {
    texts: Vec<Text>,
    /// Those that are whole and may be continued, the latest last.
    heads: VecDeque<usize>,
}

#[derive(Clone, Debug, PartialEq)]
enum Text {
    Whole(Bytes),
    /// Another one with other bytes in its midst.
    Within {
        /// The other one, which is a later one.
        text: usize,
        /// So many of its first bytes.
        begin: usize,
        middle: Box<[u8]>,
        /// So many of its last bytes.
        end: usize,
    },
    TooLong(usize),
}

impl Texts {
    pub(crate) fn push(&mut self, text: Kept) {
        let index = self.texts.len();
        let text = match text {
            Kept::Json(text) => text,
            Kept::TooLong(bytes) => return self.texts.push(Text::TooLong(bytes)),
        };
        let like = self.heads.iter().enumerate().filter_map(|(place, head)| {
            let Text::Whole(earlier) = &self.texts[*head] else { return None };
            let (begin, end) = agreement(earlier, &text);
            Some((begin + end, begin, end, place)).filter(|it| it.0 * 2 > earlier.len())
        });
        if let Some((_, begin, end, place)) = like.max()
            && let Some(head) = self.heads.remove(place)
            && let Text::Whole(earlier) = &self.texts[head]
        {
            let middle: Box<[u8]> = earlier[begin..earlier.len() - end].into();
            self.texts[head] = Text::Within { text: index, begin, middle, end };
        }
        self.texts.push(Text::Whole(text));
        self.heads.push_back(index);
        if self.heads.len() > HEADS_MAX {
            self.heads.pop_front();
        }
    }

    /// Bytes that all of them take.
    pub(crate) fn bytes(&self) -> usize {
        let bytes = |text: &Text| match text {
            Text::Whole(text) => text.len(),
            Text::Within { middle, .. } => middle.len(),
            Text::TooLong(_) => 0,
        };
        self.texts.iter().map(|it| size_of::<Text>() + bytes(it)).sum()
    }

    /// One of them, whole: put together from the later ones that it is within, at about the cost of a copy. An
    /// empty one where there is no such text.
    pub(crate) fn get(&self, index: usize) -> Kept {
        match self.texts.get(index) {
            None => Kept::none(),
            Some(Text::Whole(text)) => Kept::Json(text.clone()),
            Some(Text::TooLong(bytes)) => Kept::TooLong(*bytes),
            Some(Text::Within { .. }) => Kept::Json(self.piece(index, 0..self.length(index))),
        }
    }

    /// How long a text is, if it is kept.
    fn length(&self, index: usize) -> usize {
        match self.texts.get(index) {
            Some(Text::Whole(text)) => text.len(),
            Some(Text::Within { begin, middle, end, .. }) => begin + middle.len() + end,
            Some(Text::TooLong(_)) | None => 0,
        }
    }

    /// Some of a text's bytes.
    fn piece(&self, index: usize, range: Range<usize>) -> Bytes {
        let mut out = Vec::with_capacity(range.len());
        // What is still to be written, the next last. Conversations are long: nothing here calls itself.
        let mut rest = vec![(index, range)];
        while let Some((index, range)) = rest.pop() {
            match self.texts.get(index) {
                Some(Text::Whole(text)) => out.extend_from_slice(&text[range]),
                Some(Text::Within { text, begin, middle, end }) => {
                    let behind = begin + middle.len();
                    // Where in the other one the last bytes begin.
                    let last = self.length(*text) - end;
                    let first = range.start..range.end.min(*begin);
                    let own = range.start.max(*begin)..range.end.min(behind);
                    let tail = range.start.max(behind)..range.end;
                    if !tail.is_empty() {
                        rest.push((*text, tail.start - behind + last..tail.end - behind + last));
                    }
                    if first.is_empty() && !own.is_empty() {
                        out.extend_from_slice(&middle[own.start - begin..own.end - begin]);
                    } else if !own.is_empty() {
                        rest.push((index, own));
                    }
                    if !first.is_empty() {
                        rest.push((*text, first));
                    }
                }
                Some(Text::TooLong(_)) | None => {}
            }
        }
        out.into()
    }
}

/// How many bytes two texts have in common at their beginning, and of the rest at their end.
fn agreement(left: &[u8], right: &[u8]) -> (usize, usize) {
    let begin = left.iter().zip(right).take_while(|(a, b)| a == b).count();
    let (left, right) = (&left[begin..], &right[begin..]);
    let end = left.iter().rev().zip(right.iter().rev()).take_while(|(a, b)| a == b).count();
    (begin, end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> Kept {
        Kept::Json(Bytes::copy_from_slice(text.as_bytes()))
    }

    fn whole(texts: &Texts) -> Vec<Kept> {
        (0..texts.texts.len()).map(|it| texts.get(it)).collect()
    }

    #[test]
    fn texts_come_back_as_they_were() {
        let all = [
            json("{[a],tools}"),
            json("other"),
            json("{[a,b],tools}"),
            Kept::TooLong(7),
            json(""),
            json("{[a,b,c],tools}"),
            json("{[a,b,c],tools}"),
            json("others"),
            json("{[a,X],tools}"),
        ];
        let mut texts = Texts::default();
        all.iter().for_each(|it| texts.push(it.clone()));
        assert!(texts.texts.iter().any(|it| matches!(it, Text::Within { .. })));
        assert_eq!(whole(&texts), all);
    }

    #[test]
    fn conversations_side_by_side_take_what_their_last_requests_take() {
        let mut texts = Texts::default();
        let mut all = Vec::new();
        for turn in 1..=100 {
            for who in 0..HEADS_MAX {
                let said: String = (0..turn).map(|it| format!("{it} said {who}; ")).collect();
                all.push(json(&format!("{{\"who\":{who},\"said\":\"{said}\",\"tools\":[]}}")));
                texts.push(all[all.len() - 1].clone());
            }
        }
        let last: usize = all[all.len() - HEADS_MAX..].iter().map(Kept::bytes).sum();
        let around = all.len() * size_of::<Text>();
        // In full they would take fifty times as much.
        assert!(texts.bytes() < 2 * last + around, "{} for {last}", texts.bytes());
        assert_eq!(whole(&texts), all);
    }
}
