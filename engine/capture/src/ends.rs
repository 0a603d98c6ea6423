//! Which calls without messages continue which, by their ids.

use std::collections::{BTreeSet, HashMap};

use crate::key::Digest;

/// Where such calls end: at the last id that was sampled.
#[derive(Default)]
pub(crate) struct Ends {
    /// The latest call whose ids have this digest.
    calls: HashMap<Digest, usize>,
    /// How many ids they have.
    lengths: BTreeSet<usize>,
}

impl Ends {
    pub(crate) fn add(&mut self, digest: Digest, length: usize, call: usize) {
        self.calls.insert(digest, call);
        self.lengths.insert(length);
    }

    /// The lengths that are at most this, in order.
    pub(crate) fn within(&self, length: usize) -> Vec<usize> {
        self.lengths.range(..=length).copied().collect()
    }

    pub(crate) fn call(&self, digest: &Digest) -> Option<usize> {
        self.calls.get(digest).copied()
    }
}

/// The digests of the first so many ids, for lengths in their order, none of which is beyond the ids.
pub(crate) fn digests(ids: &[u32], lengths: &[usize]) -> Vec<Digest> {
    let mut hasher = blake3::Hasher::new();
    let mut from = 0;
    let digest = |length: &usize| {
        update(&mut hasher, &ids[from..*length]);
        from = *length;
        *hasher.finalize().as_bytes()
    };
    lengths.iter().map(digest).collect()
}

/// The digest of ids, and how many there are.
pub(crate) fn digest(parts: &[&[u32]]) -> (Digest, usize) {
    let mut hasher = blake3::Hasher::new();
    for ids in parts {
        update(&mut hasher, ids);
    }
    (*hasher.finalize().as_bytes(), parts.iter().map(|it| it.len()).sum())
}

fn update(hasher: &mut blake3::Hasher, ids: &[u32]) {
    for id in ids {
        hasher.update(&id.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_begins_with_earlier_ids_continues_the_longest() {
        let mut ends = Ends::default();
        for (call, ids) in
            [[1, 2].as_slice(), &[1, 2, 3, 4], &[1, 2, 9], &[1, 2]].iter().enumerate()
        {
            let (digest, length) = digest(&[&ids[..1], &ids[1..]]);
            ends.add(digest, length, call);
        }
        let found = |ids: &[u32]| {
            let digests = digests(ids, &ends.within(ids.len()));
            digests.iter().rev().find_map(|it| ends.call(it))
        };
        assert_eq!(found(&[1, 2, 3, 4, 5]), Some(1));
        assert_eq!(found(&[1, 2, 9]), Some(2));
        assert_eq!(found(&[1, 2, 3]), Some(3));
        assert_eq!((found(&[1]), found(&[2, 2])), (None, None));
    }
}
