//! Which ids were recorded.

use std::collections::BTreeMap;

const WORDS: usize = 64;

/// A set of numbers that are mostly dense, in chunks that a journal can replace one at a time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ids {
    chunks: BTreeMap<u64, [u64; WORDS]>,
}

impl Ids {
    /// How many numbers a chunk stands for.
    pub const CHUNK: u64 = 64 * WORDS as u64;

    /// Puts a number in; whether it was not there.
    pub fn insert(&mut self, id: u64) -> bool {
        let word = &mut self.chunks.entry(id / Self::CHUNK).or_insert([0; WORDS])[word_of(id)];
        let is_new = *word & bit_of(id) == 0;
        *word |= bit_of(id);
        is_new
    }

    /// Whether a number is there.
    #[must_use]
    pub fn contains(&self, id: u64) -> bool {
        self.chunks
            .get(&(id / Self::CHUNK))
            .is_some_and(|words| words[word_of(id)] & bit_of(id) != 0)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.chunks.values().flatten().map(|word| u64::from(word.count_ones())).sum()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All of them, in their order.
    pub fn iter(&self) -> impl Iterator<Item = u64> {
        let bits = |word: u64| (0..64).filter(move |bit| word & (1 << bit) != 0);
        self.chunks.iter().flat_map(move |(&chunk, words)| {
            let words = words.iter().zip(chunk * WORDS as u64..);
            words.flat_map(move |(&word, at)| bits(word).map(move |bit| at * 64 + bit))
        })
    }

    /// The words of one chunk, 64 ids each, the smallest in the lowest bit.
    #[must_use]
    pub fn chunk(&self, chunk: u64) -> [u64; WORDS] {
        self.chunks.get(&chunk).copied().unwrap_or([0; WORDS])
    }

    /// Replaces a chunk.
    pub fn set_chunk(&mut self, chunk: u64, words: [u64; WORDS]) {
        self.chunks.insert(chunk, words);
    }
}

const fn word_of(id: u64) -> usize {
    (id % Ids::CHUNK / 64) as usize
}

const fn bit_of(id: u64) -> u64 {
    1 << (id % 64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_told_apart() {
        let mut ids = Ids::default();
        for id in [0, 63, 64, Ids::CHUNK - 1, Ids::CHUNK, u64::MAX] {
            assert!(!ids.contains(id));
            assert!(ids.insert(id));
            assert!(!ids.insert(id));
            assert!(ids.contains(id));
        }
        assert_eq!(ids.len(), 6);
        let all = [0, 63, 64, Ids::CHUNK - 1, Ids::CHUNK, u64::MAX];
        assert!(ids.iter().eq(all));
        let mut copy = Ids::default();
        for chunk in [0, 1, u64::MAX / Ids::CHUNK] {
            copy.set_chunk(chunk, ids.chunk(chunk));
        }
        assert_eq!(copy, ids);
    }
}
