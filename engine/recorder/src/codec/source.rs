//! The bytes of one frame, on their way to values.

use bytes::Bytes;

/// Why bytes are no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Malformed {
    /// They end too early.
    #[error("it ends too early")]
    Short,
    /// A length is beyond what is left.
    #[error("a length is beyond its end")]
    Length,
    /// A text is not UTF-8.
    #[error("a text is not UTF-8")]
    Utf8,
    /// A number stands for no variant.
    #[error("{0} stands for nothing here")]
    Tag(u8),
    /// A number is larger than what it counts may be.
    #[error("a number is too large")]
    TooLarge,
    /// Something is left over.
    #[error("something is left over")]
    Rest,
}

/// What is left of a frame.
#[derive(Debug)]
pub(crate) struct Source(Bytes);

impl Source {
    pub(crate) const fn new(frame: Bytes) -> Self {
        Self(frame)
    }

    /// The next `count` bytes, not copied.
    pub(crate) fn take(&mut self, count: usize) -> Result<Bytes, Malformed> {
        if count > self.0.len() {
            return Err(Malformed::Short);
        }
        Ok(self.0.split_to(count))
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (array, rest) = self.0.split_first_chunk().ok_or(Malformed::Short)?;
        let (array, taken) = (*array, self.0.len() - rest.len());
        let _ = self.0.split_to(taken);
        Ok(array)
    }

    pub(crate) const fn left(&self) -> usize {
        self.0.len()
    }

    /// Whether all was taken.
    pub(crate) const fn end(&self) -> Result<(), Malformed> {
        if self.0.is_empty() { Ok(()) } else { Err(Malformed::Rest) }
    }
}
