//! A set of a job's episodes.

use envmill_protocol::EpisodeIndex;

/// Episodes of one job by their numbers, one bit each: a million of them take 125 KB.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EpisodeSet {
    words: Vec<u64>,
    len: u64,
}

impl EpisodeSet {
    /// Puts an episode in; `false` if it was there. Memory is one bit for each number up to the
    /// largest: the caller leaves out those beyond the job's own.
    pub fn insert(&mut self, episode: EpisodeIndex) -> bool {
        let (word, bit) = place(episode);
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        let is_new = self.words[word] & bit == 0;
        self.words[word] |= bit;
        self.len += u64::from(is_new);
        is_new
    }

    /// Whether an episode is in it.
    #[must_use]
    pub fn contains(&self, episode: EpisodeIndex) -> bool {
        let (word, bit) = place(episode);
        self.words.get(word).is_some_and(|word| word & bit != 0)
    }

    /// How many of them have a number below this one.
    #[must_use]
    pub fn count_below(&self, end: EpisodeIndex) -> u64 {
        let (last, bit) = place(end);
        let whole = self.words.iter().take(last).map(|word| u64::from(word.count_ones()));
        let rest =
            self.words.get(last).map_or(0, |word| u64::from((word & (bit - 1)).count_ones()));
        whole.sum::<u64>() + rest
    }

    /// All of them, in their order.
    pub fn iter(&self) -> impl Iterator<Item = EpisodeIndex> {
        let bits = |word: u64| (0..64).filter(move |bit| word & (1 << bit) != 0);
        self.words
            .iter()
            .zip(0..)
            .flat_map(move |(&word, at)| bits(word).map(move |bit| EpisodeIndex(64 * at + bit)))
    }

    /// The set as bits: episode `i` is bit `i % 64` of word `i / 64`.
    #[must_use]
    pub fn words(&self) -> &[u64] {
        &self.words
    }

    /// The set that has these [`words`](Self::words).
    #[must_use]
    pub fn from_words(mut words: Vec<u64>) -> Self {
        let len = words.iter().map(|word| u64::from(word.count_ones())).sum();
        let used = words.iter().rposition(|word| *word != 0).map_or(0, |last| last + 1);
        words.truncate(used);
        Self { words, len }
    }

    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl FromIterator<EpisodeIndex> for EpisodeSet {
    fn from_iter<I: IntoIterator<Item = EpisodeIndex>>(episodes: I) -> Self {
        let mut set = Self::default();
        for episode in episodes {
            set.insert(episode);
        }
        set
    }
}

const fn place(episode: EpisodeIndex) -> (usize, u64) {
    ((episode.0 / 64) as usize, 1 << (episode.0 % 64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn episodes_are_in_it_once() {
        let mut set = EpisodeSet::default();
        for index in [0, 63, 64, 1000, 64] {
            set.insert(EpisodeIndex(index));
        }
        assert_eq!(set.len(), 4);
        assert!(set.contains(EpisodeIndex(1000)) && !set.contains(EpisodeIndex(1001)));
        assert!(!set.contains(EpisodeIndex(u64::MAX)));
        let below = [0, 1, 64, 65, 1000, 1001, u64::MAX];
        let below = below.map(|end| set.count_below(EpisodeIndex(end)));
        assert_eq!(below, [0, 1, 2, 3, 3, 4, 4]);
        let all: Vec<u64> = set.iter().map(|index| index.0).collect();
        assert_eq!(all, [0, 63, 64, 1000]);
        let mut words = set.words().to_vec();
        words.push(0);
        assert_eq!(EpisodeSet::from_words(words), set);
    }
}
