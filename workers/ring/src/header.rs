//! The header of a segment: its first 4096 bytes.
//!
//! This and `descriptor.rs` are the format, byte by byte; `docs/ring.md` says the same in prose.

use crate::{error::OpenError, memory::HEADER_BYTES};

const MAGIC: [u8; 8] = *b"ENVMRING";
const VERSION: u32 = 1;

/// Slots, columns and records begin at multiples of this: a cache line.
pub(crate) const ALIGN: u64 = 64;

/// The most columns that there are descriptors for.
pub(crate) const COLUMNS_MAX: usize = 24;

/// The most rows of a batch.
pub(crate) const ROWS_MAX: u32 = 1 << 24;

/// The most slots of a segment.
pub(crate) const SLOTS_MAX: u32 = 64;

/// The most records of a log that can be out at a time.
pub(crate) const WINDOW_MAX: u32 = 1 << 20;

/// The largest segment that is made, in bytes: 64 GiB.
pub(crate) const SEGMENT_BYTES_MAX: u64 = 1 << 36;

/// What a segment holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Columns = 1,
    Log = 2,
    Releases = 3,
}

/// The part of the header that does not change and is not about columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Geometry {
    pub(crate) kind: Kind,
    pub(crate) total_bytes: u64,
    pub(crate) rows: u32,
    pub(crate) slots: u32,
    pub(crate) slot_offset: u64,
    pub(crate) slot_bytes: u64,
    pub(crate) columns: u32,
}

impl Geometry {
    /// The geometry of `slots` slots right behind the header. `None` if it is larger than any may be.
    pub(crate) fn new(kind: Kind, rows: u32, slots: u32, slot_bytes: u64) -> Option<Self> {
        let slot_offset = HEADER_BYTES as u64;
        let total_bytes = slot_bytes.checked_mul(u64::from(slots))?.checked_add(slot_offset)?;
        (total_bytes <= SEGMENT_BYTES_MAX).then_some(Self {
            kind,
            total_bytes,
            rows,
            slots,
            slot_offset,
            slot_bytes,
            columns: 0,
        })
    }

    pub(crate) fn encode(&self, header: &mut [u8; HEADER_BYTES]) {
        header[..8].copy_from_slice(&MAGIC);
        put_u32(header, 8, VERSION);
        put_u32(header, 12, self.kind as u32);
        put_u64(header, 16, self.total_bytes);
        put_u32(header, 24, self.rows);
        put_u32(header, 28, self.slots);
        put_u64(header, 32, self.slot_offset);
        put_u64(header, 40, self.slot_bytes);
        put_u32(header, 48, self.columns);
    }

    /// Reads the header of a segment of `bytes` bytes that should be of this `kind`. What comes back
    /// lies within those bytes.
    pub(crate) fn decode(
        header: &[u8; HEADER_BYTES],
        kind: Kind,
        bytes: u64,
    ) -> Result<Self, OpenError> {
        if header[..8] != MAGIC {
            return Err(OpenError::Magic);
        }
        let version = u32_at(header, 8);
        if version != VERSION {
            return Err(OpenError::Version(version));
        }
        let found = u32_at(header, 12);
        if found != kind as u32 {
            return Err(OpenError::Kind { found, expected: kind as u32 });
        }
        let total_bytes = u64_at(header, 16);
        if total_bytes != bytes {
            return Err(OpenError::Size { bytes, header: total_bytes });
        }
        let geometry = Self {
            kind,
            total_bytes,
            rows: u32_at(header, 24),
            slots: u32_at(header, 28),
            slot_offset: u64_at(header, 32),
            slot_bytes: u64_at(header, 40),
            columns: u32_at(header, 48),
        };
        geometry.check().map_err(OpenError::Header)?;
        Ok(geometry)
    }

    fn check(&self) -> Result<(), &'static str> {
        let within = |condition: bool, problem| if condition { Ok(()) } else { Err(problem) };
        within((1..=ROWS_MAX).contains(&self.rows), "impossible number of rows")?;
        within((1..=SLOTS_MAX).contains(&self.slots), "impossible number of slots")?;
        within(self.columns as usize <= COLUMNS_MAX, "too many columns")?;
        within(self.slot_offset >= HEADER_BYTES as u64, "slots within the header")?;
        within(self.slot_offset.is_multiple_of(ALIGN), "unaligned slots")?;
        within(self.slot_bytes >= ALIGN, "slots without a header")?;
        within(self.slot_bytes.is_multiple_of(ALIGN), "slots of unaligned size")?;
        let end = self
            .slot_bytes
            .checked_mul(u64::from(self.slots))
            .and_then(|bytes| bytes.checked_add(self.slot_offset));
        within(end.is_some_and(|end| end <= self.total_bytes), "slots beyond the segment's end")
    }
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array_at(bytes, at))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array_at(bytes, at))
}

pub(crate) fn put_u32(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

pub(crate) fn put_u64(bytes: &mut [u8], at: usize, value: u64) {
    bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

fn array_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&bytes[at..at + N]);
    array
}
