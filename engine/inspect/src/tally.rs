//! How often what was seen.

use std::collections::BTreeMap;

/// So many different things are told apart.
const KINDS_MAX: usize = 4096;

/// Counts by name, in bounded memory: what comes after 4,096 different names is counted together.
#[derive(Clone, Debug, Default)]
pub struct Tally<K: Ord> {
    counts: BTreeMap<K, u64>,
    others: u64,
}

impl<K: Ord> Tally<K> {
    /// Counts `key` so often more. The key is made where it has not been seen.
    pub fn add<Q>(&mut self, key: &Q, count: u64)
    where
        K: std::borrow::Borrow<Q>,
        Q: Ord + ToOwned<Owned = K> + ?Sized,
    {
        if let Some(counted) = self.counts.get_mut(key) {
            *counted += count;
        } else if self.counts.len() < KINDS_MAX {
            self.counts.insert(key.to_owned(), count);
        } else {
            self.others += count;
        }
    }

    /// What was counted, in order of the names.
    pub fn iter(&self) -> impl Iterator<Item = (&K, u64)> {
        self.counts.iter().map(|(key, count)| (key, *count))
    }

    /// What was counted, the most frequent first.
    #[must_use]
    pub fn most_frequent(&self) -> Vec<(&K, u64)> {
        let mut all: Vec<_> = self.iter().collect();
        all.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        all
    }

    /// How often something was seen for which there was no more room.
    #[must_use]
    pub const fn others(&self) -> u64 {
        self.others
    }

    /// How many different things there are, as far as they were told apart.
    #[must_use]
    pub fn len(&self) -> usize {
        self.counts.len()
    }

    /// Whether nothing was seen.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_much_is_counted_together() {
        let mut tally = Tally::<String>::default();
        for index in 0..KINDS_MAX + 10 {
            tally.add(&format!("{index}"), 1);
        }
        tally.add("3", 5);
        assert_eq!((tally.len(), tally.others()), (KINDS_MAX, 10));
        assert_eq!(tally.most_frequent()[0], (&"3".to_owned(), 6));
    }
}
