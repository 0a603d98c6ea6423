//! The most likely tokens at the places of a generation.

/// For each place of a generation, the most likely tokens there with their log-probabilities, the most likely
/// first. They are ragged: an engine may know fewer of them than it was asked for. Where there are no places,
/// it is no more than an empty pointer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TopLogprobs(Option<Box<Places>>);

/// At least one.
#[derive(Clone, Debug, Default, PartialEq)]
struct Places {
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
        let places = self.0.get_or_insert_default();
        for (token_id, logprob) in candidates {
            places.token_ids.push(token_id);
            places.logprobs.push(logprob);
        }
        places.ends.push(places.token_ids.len());
    }

    /// How many places there are.
    #[must_use]
    pub fn places(&self) -> usize {
        self.0.as_ref().map_or(0, |it| it.ends.len())
    }

    /// A place's tokens and their log-probabilities; none where there is no such place.
    pub fn at(&self, place: usize) -> impl Iterator<Item = (u32, f32)> + '_ {
        self.0.iter().flat_map(move |it| it.at(place))
    }

    /// Adds another's places behind these.
    pub fn append(&mut self, other: &Self) {
        let Some(other) = &other.0 else { return };
        let places = self.0.get_or_insert_default();
        let before = places.token_ids.len();
        places.token_ids.extend_from_slice(&other.token_ids);
        places.logprobs.extend_from_slice(&other.logprobs);
        places.ends.extend(other.ends.iter().map(|it| before + it));
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
        self.0.as_ref().map_or(&[], |it| &it.logprobs)
    }

    /// About how many bytes it takes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.0.as_ref().map_or(0, |it| it.token_ids.len() * 8 + it.ends.len() * size_of::<usize>())
    }
}

impl Places {
    fn at(&self, place: usize) -> impl Iterator<Item = (u32, f32)> + '_ {
        let end = self.ends.get(place).copied().unwrap_or(0);
        let start = place.checked_sub(1).and_then(|it| self.ends.get(it)).copied().unwrap_or(0);
        let range = start.min(end)..end;
        let logprobs = self.logprobs[range.clone()].iter().copied();
        self.token_ids[range].iter().copied().zip(logprobs)
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
