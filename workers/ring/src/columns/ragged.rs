//! The rows of a ragged column, copied out of shared memory.

use bytes::Bytes;

/// The rows of a ragged column: one allocation, of which each row is a slice.
///
/// To be reused from batch to batch: it keeps the room of its offsets. The bytes are new each time,
/// since rows of the batch before may live on; they live as long as any of their rows.
#[derive(Clone, Debug, Default)]
pub struct RaggedRows {
    /// One more than rows, rising from 0 to at most the length of `bytes`.
    pub(super) offsets: Vec<u32>,
    pub(super) bytes: Bytes,
}

impl RaggedRows {
    /// No rows.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many rows there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.offsets.len().saturating_sub(1)
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A row as a slice of the batch's bytes; it keeps all of them alive.
    #[must_use]
    pub fn row(&self, index: usize) -> Option<Bytes> {
        let (begin, end) = self.bounds(index)?;
        Some(self.bytes.slice(begin..end))
    }

    /// A row as borrowed bytes.
    #[must_use]
    pub fn slice(&self, index: usize) -> Option<&[u8]> {
        let (begin, end) = self.bounds(index)?;
        self.bytes.get(begin..end)
    }

    /// All rows, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Bytes> {
        self.offsets.windows(2).map(|pair| self.bytes.slice(pair[0] as usize..pair[1] as usize))
    }

    /// The bytes of all rows, one after another.
    #[must_use]
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Where each row begins in [`Self::bytes`], and last where they end.
    #[must_use]
    pub fn offsets(&self) -> &[u32] {
        &self.offsets
    }

    pub(super) fn clear(&mut self) {
        self.offsets.clear();
        self.bytes = Bytes::new();
    }

    /// Whether the offsets rise from 0 to at most `bytes`.
    pub(super) fn is_sound(&self, bytes: u32) -> bool {
        is_sound(&self.offsets, bytes)
    }

    fn bounds(&self, index: usize) -> Option<(usize, usize)> {
        let end = *self.offsets.get(index.checked_add(1)?)?;
        Some((self.offsets[index] as usize, end as usize))
    }
}

/// Whether offsets rise from 0 to at most `bytes`. Looks at all of them, without a branch for each.
pub(super) fn is_sound(offsets: &[u32], bytes: u32) -> bool {
    let falls = offsets.windows(2).fold(false, |falls, pair| falls | (pair[0] > pair[1]));
    offsets.first() == Some(&0) && !falls && offsets.last().is_some_and(|last| *last <= bytes)
}
