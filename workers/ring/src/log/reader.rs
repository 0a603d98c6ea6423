//! The side that reads records.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
};

use bytes::Bytes;

use super::{
    layout::{LogLayout, releases},
    record::{LogStart, RECORD_HEADER_BYTES, RecordHeader},
    releases::release,
};
use crate::{
    element::Element,
    error::{CounterError, LogError, OpenError},
    header::{ALIGN, Kind},
    limits::Limits,
    memory::{Foreign, HEADER_BYTES, Word, Words},
    protocol, segment,
};

/// Reads the records of a peer's log, each as a [`Lease`] that may be kept, passed to another thread
/// and given back in any order.
///
/// The peer may be any program: what is read from its segment is copied first and checked then.
#[derive(Debug)]
pub struct LogReader {
    shared: Arc<Shared>,
    releases: OwnedFd,
    position: u64,
    sequence: u64,
    published: u64,
}

/// What a reader and its leases need of both segments.
#[derive(Debug)]
struct Shared {
    layout: LogLayout,
    log: Foreign,
    /// Our own segment, where records are given back.
    own: Words,
}

impl LogReader {
    /// Opens a peer's log, to be read from `start` on, and makes the segment in which records are
    /// given back; pass it to the peer.
    ///
    /// # Errors
    ///
    /// When what the peer has passed is not a sealed log within `limits`.
    pub fn open(log: BorrowedFd<'_>, start: LogStart, limits: &Limits) -> Result<Self, OpenError> {
        let (log, _, geometry) = segment::open(log, Kind::Log, limits)?;
        let layout = LogLayout::from_header(geometry)?;
        let geometry =
            releases(layout.window()).ok_or(io::ErrorKind::OutOfMemory).map_err(io::Error::from)?;
        let mut header = [0; HEADER_BYTES];
        geometry.encode(&mut header);
        let (releases, memory) = segment::create(&header, geometry.total_bytes)?;
        let (own, _) = memory.split(layout.window() as usize);
        let shared = Arc::new(Shared { layout, log, own });
        let LogStart { position, sequence } = start;
        Ok(Self { shared, releases, position, sequence, published: position })
    }

    /// The log's layout.
    #[must_use]
    pub fn layout(&self) -> &LogLayout {
        &self.shared.layout
    }

    /// The next record, if there is one.
    ///
    /// # Errors
    ///
    /// When what the peer has written is impossible: give it up.
    pub fn next_record(&mut self) -> Result<Option<Lease>, LogError> {
        loop {
            if self.position == self.published && !self.look()? {
                return Ok(None);
            }
            let Shared { layout, log, .. } = &*self.shared;
            let offset = layout.offset(self.position);
            let mut header = [0; RECORD_HEADER_BYTES];
            log.copy(offset, &mut header).ok_or(LogError::OutOfBounds)?;
            let header = RecordHeader::decode(&header);
            let to_end = layout.ring_bytes() - self.position % layout.ring_bytes();
            let available = to_end.min(self.published - self.position);
            let bytes = header.ring_bytes();
            let position = self.position;
            if bytes > available {
                return Err(LogError::Length { position, bytes: header.length, available });
            }
            // Checked for padding too: a reader and its peer that disagree should know it early.
            if header.sequence != self.sequence {
                let (expected, found) = (self.sequence, header.sequence);
                return Err(LogError::Sequence { expected, found });
            }
            if header.is_padding {
                // Up to the end, or else a peer could make of one look at its counter very many.
                if bytes != to_end {
                    return Err(LogError::Padding { position });
                }
                self.position += bytes;
                continue;
            }
            self.position += bytes;
            self.sequence = self.sequence.wrapping_add(1);
            return Ok(Some(Lease {
                sequence: header.sequence,
                flags: header.flags,
                length: header.length,
                offset: offset + RECORD_HEADER_BYTES,
                shared: Arc::clone(&self.shared),
            }));
        }
    }

    /// Learns from the peer's word how far it has written, and says whether there is more.
    fn look(&mut self) -> Result<bool, LogError> {
        // Acquire: the records are read as they were when this position was stored.
        let found = protocol::acquire(&self.shared.log.word(Word::Published));
        let possible =
            self.position..=self.position.saturating_add(self.shared.layout.ring_bytes());
        if !possible.contains(&found) || !found.is_multiple_of(ALIGN) {
            return Err(CounterError { word: "published", found, possible }.into());
        }
        self.published = found;
        Ok(found > self.position)
    }
}

/// The segment in which records are given back, to be passed to the peer.
impl AsFd for LogReader {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.releases.as_fd()
    }
}

/// A record of a peer's log, held until it is dropped. The peer cannot reuse its bytes before, nor
/// those of any record after it.
#[derive(Debug)]
#[must_use = "a lease that is dropped gives its record back"]
pub struct Lease {
    sequence: u64,
    flags: u16,
    length: u32,
    /// Where its bytes begin in the segment; they lie within it.
    offset: usize,
    shared: Arc<Shared>,
}

impl Lease {
    /// The record's number.
    #[must_use]
    pub const fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The flags that the application gave it.
    #[must_use]
    pub const fn flags(&self) -> u16 {
        self.flags
    }

    /// How many bytes it has.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.length as usize
    }

    /// Whether it has none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Copies its bytes into an allocation of exactly their size.
    ///
    /// # Errors
    ///
    /// Never because of the peer.
    pub fn copy(&self) -> Result<Bytes, LogError> {
        let mut bytes = Vec::with_capacity(self.len());
        self.append_to(&mut bytes)?;
        Ok(Bytes::from(bytes))
    }

    /// Copies its bytes behind those of `to`.
    ///
    /// # Errors
    ///
    /// Never because of the peer.
    pub fn append_to(&self, to: &mut Vec<u8>) -> Result<(), LogError> {
        let log = &self.shared.log;
        log.append(self.offset, self.len(), to).ok_or(LogError::OutOfBounds)
    }

    /// Fills `to` with what lies at `offset` of the record.
    ///
    /// # Errors
    ///
    /// When that does not lie within the record, or not at a multiple of an element's size in the segment.
    pub fn copy_to<T: Element>(&self, offset: usize, to: &mut [T]) -> Result<(), LogError> {
        let at = self.offset_of(offset, size_of_val(to)).ok_or(LogError::OutOfBounds)?;
        self.shared.log.copy(at, to).ok_or(LogError::OutOfBounds)
    }

    /// Copies the `len` bytes at `offset` of the record into an allocation of their size.
    ///
    /// # Errors
    ///
    /// When they do not lie within the record.
    pub fn copy_range(&self, offset: usize, len: usize) -> Result<Bytes, LogError> {
        let at = self.offset_of(offset, len).ok_or(LogError::OutOfBounds)?;
        let mut bytes = Vec::new();
        self.shared.log.append(at, len, &mut bytes).ok_or(LogError::OutOfBounds)?;
        Ok(bytes.into())
    }

    /// The address of `len` bytes at `offset` of the record, for what is not Rust and looks at them where
    /// they lie. They may be read for as long as the lease is held, by this process, and not be written.
    ///
    /// # Errors
    ///
    /// When they do not lie within the record.
    pub fn address(&self, offset: usize, len: usize) -> Result<usize, LogError> {
        let at = self.offset_of(offset, len).ok_or(LogError::OutOfBounds)?;
        self.shared.log.address(at, len).ok_or(LogError::OutOfBounds)
    }

    /// Where something of the record lies in the segment, if it lies within the record.
    pub(super) fn offset_of(&self, offset: usize, len: usize) -> Option<usize> {
        let is_inside = offset.checked_add(len).is_some_and(|end| end <= self.len());
        is_inside.then(|| self.offset + offset)
    }

    /// Gives the record back, as dropping it does.
    pub fn release(self) {}
}

impl Drop for Lease {
    fn drop(&mut self) {
        let window = u64::from(self.shared.layout.window());
        if let Some(cell) = self.shared.own.cell((self.sequence % window) as usize) {
            release(cell, self.sequence);
        }
    }
}
