//! Elements of a record, looked at where they lie.

use std::{fmt, marker::PhantomData, mem::size_of};

use super::Lease;
use crate::{element::Element, error::LogError};

/// How many elements are copied at a time while one goes through a view: they stay in the first cache.
const CHUNK: usize = 256;

/// A list of numbers in a record, in place.
///
/// It gives out copies of elements and never a slice: another process made them, and could be writing to
/// them. What is read once is what one has; what is read twice may differ.
#[derive(Clone, Copy)]
pub struct View<'a, T> {
    lease: &'a Lease,
    offset: usize,
    len: usize,
    element: PhantomData<T>,
}

impl Lease {
    /// The `len` elements that lie at `offset` of the record.
    ///
    /// # Errors
    ///
    /// When they do not lie within the record, or not at a multiple of their size in the segment.
    pub fn view<T: Element>(&self, offset: usize, len: usize) -> Result<View<'_, T>, LogError> {
        let bytes = len.checked_mul(size_of::<T>()).ok_or(LogError::OutOfBounds)?;
        let at = self.offset_of(offset, bytes).ok_or(LogError::OutOfBounds)?;
        if !at.is_multiple_of(size_of::<T>()) {
            return Err(LogError::OutOfBounds);
        }
        Ok(View { lease: self, offset, len, element: PhantomData })
    }
}

impl<'a, T: Element> View<'a, T> {
    /// How many elements there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The element with this index.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<T> {
        let mut element = [T::default()];
        self.copy_from(index, &mut element).then_some(element[0])
    }

    /// Fills `to` with the elements from `index` on. False, and nothing done, if there are not so many.
    pub fn copy_from(&self, index: usize, to: &mut [T]) -> bool {
        let is_there = index.checked_add(to.len()).is_some_and(|end| end <= self.len);
        is_there && self.lease.copy_to(self.offset + index * size_of::<T>(), to).is_ok()
    }

    /// All elements, one after another.
    pub fn iter(&self) -> impl Iterator<Item = T> + use<'a, T> {
        let view = *self;
        let mut chunk = [T::default(); CHUNK];
        (0..view.len).step_by(CHUNK).flat_map(move |from| {
            let count = CHUNK.min(view.len - from);
            view.copy_from(from, &mut chunk[..count]);
            chunk.into_iter().take(count)
        })
    }

    /// Calls `what` with copies of the elements, some hundreds at a time: what is done with a slice can
    /// be vectorised.
    pub fn for_each_chunk(&self, mut what: impl FnMut(&[T])) {
        let mut chunk = [T::default(); CHUNK];
        for from in (0..self.len).step_by(CHUNK) {
            let count = CHUNK.min(self.len - from);
            self.copy_from(from, &mut chunk[..count]);
            what(&chunk[..count]);
        }
    }

    /// A copy of all of them.
    #[must_use]
    pub fn to_vec(&self) -> Vec<T> {
        let mut all = vec![T::default(); self.len];
        self.copy_from(0, &mut all);
        all
    }
}

impl<T: Element> fmt::Debug for View<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "View({} × {:?})", self.len, T::DTYPE)
    }
}
