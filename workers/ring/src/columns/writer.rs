//! The side that publishes batches.

use std::{
    io, mem,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{Arc, atomic::Ordering},
};

use super::{
    overflow::{self, OverflowColumn, OverflowMessage},
    reader::ColumnsReader,
};
use crate::{
    channel::{Channel, SendError},
    element::Element,
    error::{ColumnError, CounterError, OpenError, WriteError},
    header::Kind,
    layout::Layout,
    limits::Limits,
    memory::{Exclusive, Foreign, SmallWord, Word, Words},
    protocol::Producer,
    segment,
};

/// Publishes batches in a segment of its own.
///
/// Two processes that talk have a segment each: each publishes in its own, reads the other's, and
/// acknowledges in its own what it has read there. [`Self::connect`] ties the two together. Until then
/// as many batches can be published as there are slots.
#[derive(Debug)]
pub struct ColumnsWriter {
    layout: Layout,
    segment: OwnedFd,
    words: Words,
    body: Exclusive,
    producer: Producer,
    peer: Option<Arc<Foreign>>,
    /// How far each column of the batch in work is filled; unused for fixed ones.
    filling: Vec<Filling>,
    overflow_bytes_max: u32,
}

/// How far a ragged column is filled.
#[derive(Debug, Default)]
struct Filling {
    rows: u32,
    /// Bytes of the rows that were ended.
    ended: u32,
    /// Bytes of all rows, with the one that is in work.
    bytes: u32,
    /// All of the bytes, once they do not fit into the arena.
    spilled: Option<Vec<u8>>,
}

impl ColumnsWriter {
    /// Makes a segment with this layout, sealed so that a peer can map it read-only at most, with the
    /// default [`Limits`].
    ///
    /// # Errors
    ///
    /// When the process has no descriptor or no address space left.
    pub fn create(layout: Layout) -> io::Result<Self> {
        let (segment, memory) = segment::create(&layout.encode(), layout.total_bytes())?;
        let (words, body) = memory.split(0);
        let producer = Producer::new(layout.slots());
        let mut filling = Vec::new();
        filling.resize_with(layout.columns.len(), Filling::default);
        let overflow_bytes_max = Limits::default().overflow_bytes_max;
        Ok(Self { layout, segment, words, body, producer, peer: None, filling, overflow_bytes_max })
    }

    /// Opens the peer's segment, and takes from it how many of the batches published here are
    /// released. The reader that comes back acknowledges in the segment of this writer; the two can be
    /// used on different threads. The descriptor can be closed afterwards.
    ///
    /// The peer's layout is whatever it chose, within `limits`: compare
    /// [`ColumnsReader::layout`] with what is expected.
    ///
    /// # Errors
    ///
    /// When what the peer has passed is not a sealed segment of columns within `limits`, or there is a
    /// peer already. This side is then as it was.
    pub fn connect(
        &mut self,
        peer: BorrowedFd<'_>,
        limits: &Limits,
    ) -> Result<ColumnsReader, OpenError> {
        if self.peer.is_some() {
            return Err(OpenError::Connected);
        }
        let (memory, header, geometry) = segment::open(peer, Kind::Columns, limits)?;
        let layout = Layout::decode(&header, geometry)?;
        let memory = Arc::new(memory);
        self.peer = Some(Arc::clone(&memory));
        self.overflow_bytes_max = limits.overflow_bytes_max;
        Ok(ColumnsReader::new(layout, memory, self.words.clone(), limits.overflow_bytes_max))
    }

    /// The layout of this segment.
    #[must_use]
    pub const fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The number of the batch that is published next, from 0.
    #[must_use]
    pub const fn next_sequence(&self) -> u64 {
        self.producer.next()
    }

    /// Begins the next batch. `None` while all slots are taken: the peer's doorbell rings when it
    /// releases one, if the two sides have agreed so. A batch that was begun and not published is
    /// forgotten.
    ///
    /// # Errors
    ///
    /// When the peer's count of released batches is impossible: give it up.
    pub fn begin(&mut self) -> Result<Option<BatchMut<'_>>, CounterError> {
        if !self.has_room()? {
            return Ok(None);
        }
        for filling in &mut self.filling {
            *filling = Filling::default();
        }
        let slot = self.layout.slot(self.producer.next());
        Ok(Some(BatchMut { slot, writer: self }))
    }

    /// Whether [`Self::begin`] would begin a batch now.
    ///
    /// # Errors
    ///
    /// As for [`Self::begin`].
    pub fn has_room(&mut self) -> Result<bool, CounterError> {
        if !self.producer.has_room()
            && let Some(peer) = &self.peer
        {
            self.producer.learn(&peer.word(Word::Released))?;
        }
        Ok(self.producer.has_room())
    }

    /// Adds 1 to the heartbeat of this segment, which the peer may look at. It wraps around.
    pub fn beat(&self) {
        self.words.small_word(SmallWord::Heartbeat).fetch_add(1, Ordering::Release);
    }

    /// Sets the state word of this segment, which means what the application says. It is 0 at first.
    pub fn set_state(&self, state: u32) {
        self.words.small_word(SmallWord::State).store(state, Ordering::Release);
    }
}

/// The segment, to be passed to the peer.
impl AsFd for ColumnsWriter {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.segment.as_fd()
    }
}

/// A batch being filled, in its slot. Rows that nobody sets hold what an earlier batch left there, or
/// zeros. Dropping it publishes nothing.
#[derive(Debug)]
#[must_use = "a batch that is dropped is not published"]
pub struct BatchMut<'a> {
    writer: &'a mut ColumnsWriter,
    slot: usize,
}

impl BatchMut<'_> {
    /// The batch's number.
    #[must_use]
    pub const fn sequence(&self) -> u64 {
        self.writer.producer.next()
    }

    /// All elements of a fixed column: the layout's rows, each with the elements of its shape, one
    /// after another.
    ///
    /// # Errors
    ///
    /// When the column is not there, is ragged, or has elements of another type.
    pub fn fixed<T: Element>(&mut self, column: usize) -> Result<&mut [T], ColumnError> {
        let ColumnsWriter { layout, body, .. } = &mut *self.writer;
        let rows = layout.rows() as usize;
        let found = layout.fixed::<T>(column)?;
        let offset = self.slot + found.data_offset as usize;
        let slice = body.slice_mut(offset, rows * found.row_elements);
        // The layout has been checked, so that it always lies in the segment.
        slice.ok_or(ColumnError::Absent(column))
    }

    /// Sets one row of a fixed column: as many elements as its shape has.
    ///
    /// # Errors
    ///
    /// When the column is not of this type, or does not have this row.
    pub fn set_row<T: Element>(
        &mut self,
        column: usize,
        row: usize,
        elements: &[T],
    ) -> Result<(), ColumnError> {
        let ColumnsWriter { layout, body, .. } = &mut *self.writer;
        let found = layout.fixed::<T>(column)?;
        if row >= layout.rows() as usize || elements.len() != found.row_elements {
            return Err(ColumnError::Row { column, row });
        }
        let offset =
            self.slot + found.data_offset as usize + row * found.row_elements * size_of::<T>();
        let slice = body.slice_mut(offset, elements.len()).ok_or(ColumnError::Absent(column))?;
        slice.copy_from_slice(elements);
        Ok(())
    }

    /// Sets one row of a column of scalars.
    ///
    /// # Errors
    ///
    /// As for [`Self::set_row`].
    pub fn set<T: Element>(
        &mut self,
        column: usize,
        row: usize,
        value: T,
    ) -> Result<(), ColumnError> {
        self.set_row(column, row, &[value])
    }

    /// Adds the next row of a ragged column.
    ///
    /// # Errors
    ///
    /// When the column is not ragged, or full; nothing is added then.
    pub fn push(&mut self, column: usize, row: &[u8]) -> Result<(), WriteError> {
        self.add(column, row, true)
    }

    /// Adds a piece to the row of a ragged column that is in work, which [`Self::end_row`] ends.
    ///
    /// # Errors
    ///
    /// When the column is not ragged, or full; nothing is added then. [`Self::drop_row`] takes back
    /// the pieces before.
    pub fn append(&mut self, column: usize, piece: &[u8]) -> Result<(), WriteError> {
        self.add(column, piece, false)
    }

    /// Ends the row of a ragged column that is in work; without pieces it is empty.
    ///
    /// # Errors
    ///
    /// When the column is not ragged, or has as many rows as fit.
    pub fn end_row(&mut self, column: usize) -> Result<(), WriteError> {
        self.add(column, &[], true)
    }

    fn add(&mut self, column: usize, piece: &[u8], ends: bool) -> Result<(), WriteError> {
        let ColumnsWriter { layout, body, filling, overflow_bytes_max, .. } = &mut *self.writer;
        let (found, arena_bytes) = layout.ragged(column)?;
        let filling = &mut filling[column];
        if filling.rows == layout.rows() {
            return Err(WriteError::RowsFull { rows_max: layout.rows() });
        }
        let arena = self.slot + found.arena_offset as usize;
        let end = (filling.bytes as usize).saturating_add(piece.len());
        if filling.spilled.is_none() && end as u64 <= arena_bytes {
            if let Some(to) = body.slice_mut(arena + filling.bytes as usize, piece.len()) {
                to.copy_from_slice(piece);
            }
        } else {
            let bytes_max = *overflow_bytes_max;
            if end > bytes_max as usize {
                return Err(WriteError::BytesFull { column, bytes_max });
            }
            let before = body.slice_mut(arena, (filling.bytes as usize).min(arena_bytes as usize));
            let spilled = filling.spilled.get_or_insert_with(|| {
                let mut spilled = Vec::with_capacity(end);
                spilled.extend_from_slice(before.unwrap_or_default());
                spilled
            });
            spilled.extend_from_slice(piece);
        }
        // At most an arena's length or the limit, which have 32 bits.
        filling.bytes = end as u32;
        if ends {
            filling.rows += 1;
            filling.ended = filling.bytes;
            let offset = self.slot + found.data_offset as usize + filling.rows as usize * 4;
            if let Some(to) = body.slice_mut(offset, 1) {
                to[0] = filling.ended;
            }
        }
        Ok(())
    }

    /// Takes back the pieces of the row of a ragged column that is in work.
    ///
    /// # Errors
    ///
    /// When the column is not ragged.
    pub fn drop_row(&mut self, column: usize) -> Result<(), WriteError> {
        self.writer.layout.ragged(column)?;
        let filling = &mut self.writer.filling[column];
        filling.bytes = filling.ended;
        if let Some(spilled) = &mut filling.spilled {
            spilled.truncate(filling.ended as usize);
        }
        Ok(())
    }

    /// Publishes the batch with its first `rows` rows.
    ///
    /// Columns that did not fit come back and must reach the peer, which sees the batch only with
    /// them: [`Published::send_overflow`], then ring.
    ///
    /// # Errors
    ///
    /// When a ragged column has not exactly `rows` rows, or there is no memory for one that did not
    /// fit. The batch is not published and forgotten.
    pub fn publish(self, rows: u32) -> Result<Published, WriteError> {
        let ColumnsWriter { layout, body, words, producer, filling, .. } = self.writer;
        if rows > layout.rows() {
            return Err(WriteError::RowsFull { rows_max: layout.rows() });
        }
        let mut overflow = Vec::new();
        let mut bits = 0_u32;
        for (index, column) in layout.columns.iter().enumerate() {
            if column.arena_bytes().is_none() {
                continue;
            }
            let filling = &mut filling[index];
            if filling.rows != rows || filling.bytes != filling.ended {
                return Err(WriteError::RowsMissing { column: index, pushed: filling.rows, rows });
            }
            if let Some(first) = body.slice_mut(self.slot + column.data_offset as usize, 1) {
                first[0] = 0_u32;
            }
            if let Some(bytes) = mem::take(&mut filling.spilled) {
                let memory = overflow::create(&bytes).map_err(WriteError::Overflow)?;
                overflow.push(OverflowColumn { column: index, memory });
                bits |= 1 << index;
            }
        }
        if let Some(header) = body.slice_mut(self.slot, 1) {
            header[0] = producer.next();
        }
        if let Some(header) = body.slice_mut(self.slot + 8, 2) {
            header.copy_from_slice(&[rows, bits]);
        }
        let sequence = producer.publish(words.word(Word::Published));
        Ok(Published { sequence, overflow })
    }
}

/// A batch that was published.
#[derive(Debug)]
#[must_use = "the peer sees a batch only together with the columns that did not fit"]
pub struct Published {
    /// Its number.
    pub sequence: u64,
    /// The columns that did not fit; normally none.
    pub overflow: Vec<OverflowColumn>,
}

impl Published {
    /// Sends the columns that did not fit, one message each, and forgets those that were sent. False
    /// if the socket has no room now: call it again when the peer has received something.
    ///
    /// # Errors
    ///
    /// When the peer is gone.
    pub fn send_overflow(&mut self, channel: &Channel) -> Result<bool, SendError> {
        while let Some(next) = self.overflow.last() {
            let message =
                OverflowMessage { sequence: self.sequence, column: next.column as u32 }.encode();
            if !channel.send(&message, &[next.memory.as_fd()])? {
                return Ok(false);
            }
            self.overflow.pop();
        }
        Ok(true)
    }
}
