//! The most likely tokens at the places of a generation.

/// For each place of a generation, the most likely tokens there with their log-probabilities, the most likely
/// first. They are ragged: an engine may know fewer of them than it was asked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TopLogprobs {
    token_ids: Vec<u32>,
    /// Natural logarithms.
    logprobs: Vec<f32>,
    /// Where each place's tokens end.
    ends: Vec<usize>,
}

impl TopLogprobs {
    /// Adds a place. Of its candidates, in any order, at most so many are kept: the most likely ones.
    pub fn push(&mut self, candidates: impl IntoIterator<Item = (u32, f32)>, most: u32) {
        let mut candidates: Vec<_> = candidates.into_iter().collect();
        candidates.sort_by(|left, right| right.1.total_cmp(&left.1));
        candidates.truncate(most as usize);
        for (token_id, logprob) in candidates {
            self.token_ids.push(token_id);
            self.logprobs.push(logprob);
        }
        self.ends.push(self.token_ids.len());
    }

    /// How many places there are.
    #[must_use]
    pub fn places(&self) -> usize {
        self.ends.len()
    }

    /// A place's tokens and their log-probabilities; none where there is no such place.
    pub fn at(&self, place: usize) -> impl Iterator<Item = (u32, f32)> + '_ {
        let end = self.ends.get(place).copied().unwrap_or(0);
        let start = place.checked_sub(1).and_then(|it| self.ends.get(it)).copied().unwrap_or(0);
        let range = start.min(end)..end;
        let logprobs = self.logprobs[range.clone()].iter().copied();
        self.token_ids[range].iter().copied().zip(logprobs)
    }

    /// Adds another's places behind these.
    pub fn append(&mut self, other: &Self) {
        let before = self.token_ids.len();
        self.token_ids.extend_from_slice(&other.token_ids);
        self.logprobs.extend_from_slice(&other.logprobs);
        self.ends.extend(other.ends.iter().map(|it| before + it));
    }

    /// The places from this one on.
    #[must_use]
    pub fn rest(&self, place: usize) -> Self {
        let mut rest = Self::default();
        for it in place..self.places() {
            rest.push(self.at(it), u32::MAX);
        }
        rest
    }

    /// All log-probabilities, place by place.
    pub(crate) fn logprobs(&self) -> &[f32] {
        &self.logprobs
    }

    /// About how many bytes it takes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.token_ids.len() * 8 + self.ends.len() * size_of::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(top: &TopLogprobs, place: usize) -> Vec<u32> {
        top.at(place).map(|it| it.0).collect()
    }

    #[test]
    fn the_most_likely_of_a_place_are_kept() {
        let mut top = TopLogprobs::default();
        top.push([(1, -3.0), (2, -0.5), (3, -2.0)], 2);
        top.push([], 2);
        top.push([(4, -1.0)], 2);
        assert_eq!((top.places(), at(&top, 0), at(&top, 1)), (3, vec![2, 3], Vec::new()));
        assert_eq!((at(&top, 2), at(&top, 3)), (vec![4], Vec::new()));
        let rest = top.rest(1);
        assert_eq!((rest.places(), at(&rest, 1)), (2, vec![4]));
        top.append(&rest);
        assert_eq!((top.places(), at(&top, 0), at(&top, 4)), (5, vec![2, 3], vec![4]));
        assert_eq!(top.rest(9), TopLogprobs::default());
    }
}
