//! The side that writes records.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use super::{
    layout::{LogLayout, check_releases},
    record::{LogStart, RECORD_HEADER_BYTES, RecordHeader, ring_bytes},
    releases::{Tail, is_released},
};
use crate::{
    error::{OpenError, RecordError},
    header::Kind,
    limits::Limits,
    memory::{Exclusive, Foreign, HEADER_BYTES, Word, Words},
    protocol, segment,
};

/// Writes records into a ring of its own, for one consumer at a time.
///
/// The consumer answers in a small segment of its own, where it gives records back in any order; the
/// ring is reused up to the oldest record that is still out. Nothing that it writes there harms this
/// side: at worst it gives back what it still reads.
#[derive(Debug)]
pub struct LogWriter {
    layout: LogLayout,
    segment: OwnedFd,
    words: Words,
    ring: Exclusive,
    consumer: Option<Foreign>,
    tail: Tail,
    /// Bytes that have gone through the ring.
    head: u64,
    /// The number of the next record.
    sequence: u64,
}

impl LogWriter {
    /// Makes a segment with this layout, sealed so that a peer can map it read-only at most.
    ///
    /// # Errors
    ///
    /// When the process has no descriptor or no address space left.
    pub fn create(layout: LogLayout) -> io::Result<Self> {
        let mut header = [0; HEADER_BYTES];
        layout.geometry.encode(&mut header);
        let (segment, memory) = segment::create(&header, layout.geometry.total_bytes)?;
        let (words, ring) = memory.split(0);
        let tail = Tail::new();
        Ok(Self { layout, segment, words, ring, consumer: None, tail, head: 0, sequence: 0 })
    }

    /// Takes the segment in which the consumer gives records back: that of its
    /// [`LogReader`](super::LogReader). The descriptor can be closed afterwards.
    ///
    /// # Errors
    ///
    /// When what the peer has passed is not such a segment, or there is a consumer already.
    pub fn connect(&mut self, releases: BorrowedFd<'_>, limits: &Limits) -> Result<(), OpenError> {
        if self.consumer.is_some() {
            return Err(OpenError::Connected);
        }
        let (memory, _, geometry) = segment::open(releases, Kind::Releases, limits)?;
        check_releases(&geometry, self.layout.window())?;
        self.consumer = Some(memory);
        Ok(())
    }

    /// Has the kernel find the memory of the whole ring now. Without it the first lap takes several times
    /// as long as the others, and a machine that has not so much memory ends the process in mid-lap.
    ///
    /// # Errors
    ///
    /// When there is not so much memory.
    pub fn populate(&mut self) -> io::Result<()> {
        self.ring.populate()
    }

    /// From where a consumer that connects now reads. Tell it together with the segment; it is 0 and 0
    /// for the first one.
    #[must_use]
    pub const fn start(&self) -> LogStart {
        LogStart { position: self.head, sequence: self.sequence }
    }

    /// The log's layout.
    #[must_use]
    pub const fn layout(&self) -> &LogLayout {
        &self.layout
    }

    /// How many records are out, as far as is known.
    #[must_use]
    pub fn outstanding(&self) -> usize {
        self.tail.len()
    }

    /// Begins a record of `length` bytes, with flags that mean what the application says. `None` while
    /// the ring or the window has no room for it.
    ///
    /// # Errors
    ///
    /// When no ring of this size has room for it.
    pub fn begin(
        &mut self,
        length: usize,
        flags: u16,
    ) -> Result<Option<RecordMut<'_>>, RecordError> {
        let bytes_max = self.layout.record_bytes_max();
        let Some(length) = u32::try_from(length).ok().filter(|_| length <= bytes_max) else {
            return Err(RecordError::TooLong { bytes: length, bytes_max });
        };
        let bytes = ring_bytes(length.into());
        let to_end = self.layout.ring_bytes() - self.head % self.layout.ring_bytes();
        // A record lies in one piece: where the ring ends too early, padding goes up to its end.
        let padding = if bytes > to_end { to_end } else { 0 };
        if !self.has_room(padding + bytes) {
            self.reclaim();
            if !self.has_room(padding + bytes) {
                return Ok(None);
            }
        }
        Ok(Some(RecordMut { writer: self, padding, length, flags }))
    }

    /// Writes a whole record and says its number. `None` while there is no room for it.
    ///
    /// # Errors
    ///
    /// When no ring of this size has room for it.
    pub fn append(&mut self, record: &[u8], flags: u16) -> Result<Option<u64>, RecordError> {
        let Some(mut begun) = self.begin(record.len(), flags)? else { return Ok(None) };
        begun.bytes().copy_from_slice(record);
        Ok(Some(begun.publish()))
    }

    /// Takes back all that the consumer has given back.
    pub fn reclaim(&mut self) {
        let Some(consumer) = &self.consumer else { return };
        let window = u64::from(self.layout.window());
        self.tail.advance(|sequence| {
            let cell = consumer.cell((sequence % window) as usize);
            cell.is_some_and(|cell| is_released(&cell, sequence))
        });
    }

    /// Forgets the consumer and takes everything back, whatever it still had. Another one may connect
    /// then, and reads from [`Self::start`].
    ///
    /// For a consumer that is dead. One that lives reads garbage from here on, and gets errors for it.
    pub fn reclaim_all(&mut self) {
        self.consumer = None;
        self.tail.advance(|_| true);
    }

    fn has_room(&self, bytes: u64) -> bool {
        let used = self.head - self.tail.position();
        used + bytes <= self.layout.ring_bytes() && self.tail.len() < self.layout.window() as usize
    }

    fn put_header(&mut self, position: u64, header: RecordHeader) {
        let offset = self.layout.offset(position);
        if let Some(to) = self.ring.slice_mut(offset, RECORD_HEADER_BYTES) {
            to.copy_from_slice(&header.encode());
        }
    }
}

/// The segment, to be passed to the consumer.
impl AsFd for LogWriter {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.segment.as_fd()
    }
}

/// A record being written, in its place. Dropping it writes nothing.
#[derive(Debug)]
#[must_use = "a record that is dropped is not published"]
pub struct RecordMut<'a> {
    writer: &'a mut LogWriter,
    padding: u64,
    length: u32,
    flags: u16,
}

impl RecordMut<'_> {
    /// The record's bytes, which hold anything at first.
    pub fn bytes(&mut self) -> &mut [u8] {
        let position = self.writer.head + self.padding;
        let offset = self.writer.layout.offset(position) + RECORD_HEADER_BYTES;
        // In the ring always: the record was measured when it was begun.
        self.writer.ring.slice_mut(offset, self.length as usize).unwrap_or_default()
    }

    /// Publishes the record, and says its number.
    pub fn publish(self) -> u64 {
        let Self { writer, padding, length, flags } = self;
        let sequence = writer.sequence;
        let header = RecordHeader { length, is_padding: false, flags, sequence };
        if padding > 0 {
            let length = (padding - RECORD_HEADER_BYTES as u64) as u32;
            writer.put_header(
                writer.head,
                RecordHeader { length, is_padding: true, flags: 0, sequence },
            );
        }
        writer.put_header(writer.head + padding, header);
        writer.head += padding + header.ring_bytes();
        writer.tail.push(writer.head);
        writer.sequence = sequence.wrapping_add(1);
        // Release: whoever sees the new position sees the record as it was written.
        protocol::release(writer.words.word(Word::Published), writer.head);
        sequence
    }
}
