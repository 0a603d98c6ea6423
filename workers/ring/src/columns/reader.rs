//! The side that reads a peer's batches.

use std::{ops::Range, os::fd::OwnedFd, sync::Arc};

use bytes::Bytes;

use super::{
    overflow::Attached,
    ragged::{self, RaggedRows},
};
use crate::{
    element::{DType, Element},
    error::{ColumnError, OverflowError, ReadError},
    layout::{Column, Layout},
    memory::{Foreign, SmallWord, Word, Words},
    protocol::Consumer,
};

/// Reads the batches of a peer, from [`ColumnsWriter::connect`](super::ColumnsWriter::connect).
///
/// The peer may be any program: all that is read from its segment is copied first and checked then.
/// A batch may hold any values, but none that reach outside of the segment.
#[derive(Debug)]
pub struct ColumnsReader {
    layout: Layout,
    memory: Arc<Foreign>,
    /// The header of our own segment, where the peer sees what is released.
    own: Words,
    consumer: Consumer,
    /// What came beside batches that are not released yet: at most one for each slot and column.
    attached: Vec<Attached>,
    overflow_bytes_max: u32,
}

impl ColumnsReader {
    pub(super) fn new(
        layout: Layout,
        memory: Arc<Foreign>,
        own: Words,
        overflow_bytes_max: u32,
    ) -> Self {
        let consumer = Consumer::new(layout.slots());
        Self { layout, memory, own, consumer, attached: Vec::new(), overflow_bytes_max }
    }

    /// The layout of the peer's segment, as it was when it was opened.
    #[must_use]
    pub const fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The next batch, if the peer has published it and all that belongs beside it has been attached.
    /// Until it is released the same batch comes again.
    ///
    /// # Errors
    ///
    /// When the peer's counter or the batch's header is impossible: give the peer up.
    pub fn next_batch(&mut self) -> Result<Option<Batch<'_>>, ReadError> {
        if !self.consumer.has_batch(&self.memory.word(Word::Published))? {
            return Ok(None);
        }
        let sequence = self.consumer.next();
        let slot = self.layout.slot(sequence);
        let (mut found, mut counts) = ([0_u64], [0_u32; 2]);
        self.memory.copy(slot, &mut found).ok_or(ReadError::OutOfBounds)?;
        self.memory.copy(slot + 8, &mut counts).ok_or(ReadError::OutOfBounds)?;
        let [rows, overflow] = counts;
        if found[0] != sequence {
            return Err(ReadError::Sequence { expected: sequence, found: found[0] });
        }
        if rows > self.layout.rows() {
            return Err(ReadError::Rows { found: rows, rows_max: self.layout.rows() });
        }
        for column in (0..32).filter(|column| overflow & (1 << column) != 0) {
            if self.layout.ragged(column).is_err() {
                return Err(ReadError::OverflowColumns(overflow));
            }
            if self.attached(sequence, column).is_none() {
                return Ok(None);
            }
        }
        Ok(Some(Batch { sequence, slot, rows, overflow, reader: self }))
    }

    /// Takes the memory of a column that did not fit into its batch, from an
    /// [`OverflowMessage`](super::OverflowMessage) and the descriptor that came with it. It may come
    /// before or after the batch is seen to be published.
    ///
    /// # Errors
    ///
    /// When nothing is to come for this batch and column, when it is too large, or when it could still
    /// change: give the peer up.
    pub fn attach_overflow(
        &mut self,
        sequence: u64,
        column: usize,
        memory: OwnedFd,
    ) -> Result<(), OverflowError> {
        let next = self.consumer.next();
        let possible = next..next.saturating_add(self.layout.slots().into());
        if !possible.contains(&sequence)
            || self.layout.ragged(column).is_err()
            || self.attached(sequence, column).is_some()
        {
            return Err(OverflowError::Unexpected { sequence, column });
        }
        self.attached.push(Attached::new(sequence, column, memory, self.overflow_bytes_max)?);
        Ok(())
    }

    /// The peer's heartbeat.
    #[must_use]
    pub fn peer_heartbeat(&self) -> u32 {
        self.memory.small_word(SmallWord::Heartbeat)
    }

    /// The peer's state word.
    #[must_use]
    pub fn peer_state(&self) -> u32 {
        self.memory.small_word(SmallWord::State)
    }

    fn attached(&self, sequence: u64, column: usize) -> Option<&Attached> {
        self.attached.iter().find(|it| it.sequence == sequence && it.column == column)
    }
}

/// A batch of the peer. Dropping it releases nothing: it comes again.
#[derive(Debug)]
#[must_use = "a batch that is not released comes again"]
pub struct Batch<'a> {
    reader: &'a mut ColumnsReader,
    sequence: u64,
    slot: usize,
    rows: u32,
    overflow: u32,
}

impl Batch<'_> {
    /// The batch's number.
    #[must_use]
    pub const fn sequence(&self) -> u64 {
        self.sequence
    }

    /// How many rows it has, at most the layout's.
    #[must_use]
    pub const fn rows(&self) -> usize {
        self.rows as usize
    }

    /// The layout of the peer's segment.
    #[must_use]
    pub const fn layout(&self) -> &Layout {
        &self.reader.layout
    }

    /// Copies the rows of a fixed column to `to`, whose elements it replaces.
    ///
    /// # Errors
    ///
    /// When the column is not there, is ragged, or has elements of another type.
    pub fn fixed<T: Element>(&self, column: usize, to: &mut Vec<T>) -> Result<(), ReadError> {
        to.clear();
        let found = self.reader.layout.fixed::<T>(column)?;
        let elements = self.rows() * found.row_elements;
        self.reader.memory.append(self.data(found), elements, to).ok_or(ReadError::OutOfBounds)
    }

    /// Copies the rows of a fixed column with elements of type `dtype` to `to`, whose bytes it replaces:
    /// the elements as they are in memory, little-endian.
    ///
    /// # Errors
    ///
    /// As for [`Self::fixed`].
    pub fn fixed_bytes(
        &self,
        column: usize,
        dtype: DType,
        to: &mut Vec<u8>,
    ) -> Result<(), ReadError> {
        self.copy_bytes(column, dtype, 0..self.rows(), to)
    }

    /// The same of one row.
    ///
    /// # Errors
    ///
    /// As for [`Self::fixed`], and where the batch has no such row.
    pub fn fixed_row_bytes(
        &self,
        column: usize,
        dtype: DType,
        row: usize,
        to: &mut Vec<u8>,
    ) -> Result<(), ReadError> {
        if row >= self.rows() {
            return Err(ColumnError::Row { column, row }.into());
        }
        self.copy_bytes(column, dtype, row..row + 1, to)
    }

    fn copy_bytes(
        &self,
        column: usize,
        dtype: DType,
        rows: Range<usize>,
        to: &mut Vec<u8>,
    ) -> Result<(), ReadError> {
        to.clear();
        let found = self.reader.layout.fixed_of(column, dtype)?;
        let row_bytes = found.row_elements * dtype.bytes();
        let at = self.data(found) + rows.start * row_bytes;
        let bytes = rows.len() * row_bytes;
        self.reader.memory.append(at, bytes, to).ok_or(ReadError::OutOfBounds)
    }

    /// Copies the rows of a fixed column to the beginning of `to`, and says how many elements that
    /// were.
    ///
    /// # Errors
    ///
    /// As for [`Self::fixed`], and when `to` is too short.
    pub fn copy_fixed<T: Element>(&self, column: usize, to: &mut [T]) -> Result<usize, ReadError> {
        let found = self.reader.layout.fixed::<T>(column)?;
        let elements = self.rows() * found.row_elements;
        let to = to.get_mut(..elements).ok_or(ColumnError::Row { column, row: self.rows() })?;
        self.reader.memory.copy(self.data(found), to).ok_or(ReadError::OutOfBounds)?;
        Ok(elements)
    }

    /// Copies the rows of a ragged column to `to`, whose rows it replaces: all bytes in one copy.
    ///
    /// # Errors
    ///
    /// When the column is not there or fixed, when its offsets are impossible, or when what came beside
    /// the batch has another size. There are no rows in `to` then.
    pub fn ragged(&self, column: usize, to: &mut RaggedRows) -> Result<(), ReadError> {
        to.clear();
        let read = self.read_ragged(column, to);
        if read.is_err() {
            to.clear();
        }
        read
    }

    fn read_ragged(&self, column: usize, to: &mut RaggedRows) -> Result<(), ReadError> {
        let memory = &self.reader.memory;
        let (found, arena_bytes) = self.reader.layout.ragged(column)?;
        memory
            .append(self.data(found), self.rows() + 1, &mut to.offsets)
            .ok_or(ReadError::OutOfBounds)?;
        let beside = if self.overflow & (1 << column) == 0 {
            None
        } else {
            let attached = self.reader.attached(self.sequence, column);
            Some(attached.ok_or(ReadError::OverflowColumns(self.overflow))?)
        };
        // Arenas are below 4 GiB.
        let bytes_max = beside.map_or(arena_bytes as u32, Attached::bytes);
        let end = to.offsets.last().copied().unwrap_or_default();
        if !to.is_sound(bytes_max) || beside.is_some_and(|beside| beside.bytes() != end) {
            return Err(ReadError::Offsets { column });
        }
        to.bytes = if let Some(beside) = beside {
            Bytes::from(beside.read().map_err(|source| ReadError::Overflow { column, source })?)
        } else {
            let mut bytes = Vec::with_capacity(end as usize);
            let arena = self.slot + found.arena_offset as usize;
            memory.append(arena, end as usize, &mut bytes).ok_or(ReadError::OutOfBounds)?;
            Bytes::from(bytes)
        };
        Ok(())
    }

    /// Where the rows of a ragged column begin in its arena, and last where they end, copied to `to` and
    /// checked. Each row's elements are then copied to where they belong by [`Self::copy_ragged`]: one
    /// copy, where [`Self::ragged`] and what comes after it are two.
    ///
    /// # Errors
    ///
    /// As for [`Self::ragged`], and when the column lies beside the batch.
    pub fn ragged_bounds(&self, column: usize, to: &mut Vec<u32>) -> Result<(), ReadError> {
        to.clear();
        let (found, arena_bytes) = self.ragged_inside(column)?;
        let memory = &self.reader.memory;
        memory.append(self.data(found), self.rows() + 1, to).ok_or(ReadError::OutOfBounds)?;
        // Arenas are below 4 GiB.
        if !ragged::is_sound(to, arena_bytes as u32) {
            to.clear();
            return Err(ReadError::Offsets { column });
        }
        Ok(())
    }

    /// Appends what these bytes of a ragged column's arena hold to `to`, as elements.
    ///
    /// # Errors
    ///
    /// When the column is not there, fixed, or beside the batch, and when the bytes do not lie in its
    /// arena or are no whole elements, at a place where such elements can be.
    pub fn copy_ragged<T: Element>(
        &self,
        column: usize,
        bytes: Range<u32>,
        to: &mut Vec<T>,
    ) -> Result<(), ReadError> {
        let (found, arena_bytes) = self.ragged_inside(column)?;
        let length = bytes.end.checked_sub(bytes.start).ok_or(ReadError::Offsets { column })?;
        let element = size_of::<T>();
        if u64::from(bytes.end) > arena_bytes
            || !(length as usize).is_multiple_of(element)
            || !(bytes.start as usize).is_multiple_of(element)
        {
            return Err(ReadError::Offsets { column });
        }
        let at = self.slot + found.arena_offset as usize + bytes.start as usize;
        let memory = &self.reader.memory;
        memory.append(at, length as usize / element, to).ok_or(ReadError::OutOfBounds)
    }

    /// A ragged column that lies in the batch.
    fn ragged_inside(&self, column: usize) -> Result<(&Column, u64), ReadError> {
        let found = self.reader.layout.ragged(column)?;
        if self.overflow & (1 << column) != 0 {
            return Err(ReadError::OverflowColumns(self.overflow));
        }
        Ok(found)
    }

    /// Gives the slot back to the peer, and frees what came beside the batch. Ring the peer's doorbell
    /// afterwards if it waits for room.
    pub fn release(self) {
        let reader = self.reader;
        reader.attached.retain(|attached| attached.sequence > self.sequence);
        reader.consumer.release(reader.own.word(Word::Released));
    }

    const fn data(&self, column: &Column) -> usize {
        self.slot + column.data_offset as usize
    }
}
