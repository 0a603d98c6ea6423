//! A record in the ring.

use crate::header::{ALIGN, put_u32, put_u64, u32_at, u64_at};

/// Bytes before a record's own.
pub(super) const RECORD_HEADER_BYTES: usize = 16;

/// The flag of a record that only fills the ring up to its end.
const PADDING: u32 = 1;

/// Where the application's flags begin.
const FLAGS_SHIFT: u32 = 16;

/// From where a consumer reads a log that others have read before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogStart {
    /// Bytes that went through the ring before.
    pub position: u64,
    /// The number of the next record.
    pub sequence: u64,
}

/// What stands before each record, and instead of one where the ring ends too early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RecordHeader {
    /// Bytes of the record without this header and without what rounds it up.
    pub(super) length: u32,
    pub(super) is_padding: bool,
    /// The application's.
    pub(super) flags: u16,
    pub(super) sequence: u64,
}

impl RecordHeader {
    pub(super) fn encode(self) -> [u8; RECORD_HEADER_BYTES] {
        let mut bytes = [0; RECORD_HEADER_BYTES];
        let kind = if self.is_padding { PADDING } else { 0 };
        put_u32(&mut bytes, 0, self.length);
        put_u32(&mut bytes, 4, kind | u32::from(self.flags) << FLAGS_SHIFT);
        put_u64(&mut bytes, 8, self.sequence);
        bytes
    }

    pub(super) fn decode(bytes: &[u8; RECORD_HEADER_BYTES]) -> Self {
        let flags = u32_at(bytes, 4);
        Self {
            length: u32_at(bytes, 0),
            is_padding: flags & PADDING != 0,
            flags: (flags >> FLAGS_SHIFT) as u16,
            sequence: u64_at(bytes, 8),
        }
    }

    /// Bytes of the ring that the record takes.
    pub(super) const fn ring_bytes(&self) -> u64 {
        ring_bytes(self.length as u64)
    }
}

/// Bytes of the ring that a record of this length takes.
pub(super) const fn ring_bytes(length: u64) -> u64 {
    (RECORD_HEADER_BYTES as u64 + length).next_multiple_of(ALIGN)
}
