//! How large a log is, and the segment that answers it.

use super::record::RECORD_HEADER_BYTES;
use crate::{
    error::{LayoutError, OpenError},
    header::{ALIGN, Geometry, Kind, WINDOW_MAX},
    memory::HEADER_BYTES,
};

/// The smallest ring, in bytes.
const RING_BYTES_MIN: u64 = 4096;

/// The size of a log: bytes of its ring, and how many records may be out at a time.
///
/// The log takes `ring_bytes` of shared memory (once it has been filled), its consumer 8 bytes for
/// each record of the window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLayout {
    pub(super) geometry: Geometry,
}

impl LogLayout {
    /// A ring of `ring_bytes` bytes for records of which `window` may be published and not given back.
    ///
    /// A record takes 16 bytes more than it holds, rounded up to 64.
    ///
    /// # Errors
    ///
    /// When the ring is too small or too large, or not a multiple of 64; when the window is 0 or too
    /// large.
    pub fn new(ring_bytes: u64, window: u32) -> Result<Self, LayoutError> {
        if ring_bytes < RING_BYTES_MIN || !ring_bytes.is_multiple_of(ALIGN) {
            return Err(LayoutError::RingBytes(ring_bytes));
        }
        if !(1..=WINDOW_MAX).contains(&window) {
            return Err(LayoutError::Window(window));
        }
        let geometry =
            Geometry::new(Kind::Log, window, 1, ring_bytes).ok_or(LayoutError::TooLarge)?;
        Ok(Self { geometry })
    }

    pub(super) fn from_header(geometry: Geometry) -> Result<Self, OpenError> {
        check_window(&geometry)?;
        if geometry.slot_bytes < RING_BYTES_MIN {
            return Err(OpenError::Header("the ring is too small"));
        }
        Ok(Self { geometry })
    }

    /// Bytes of the ring.
    #[must_use]
    pub const fn ring_bytes(&self) -> u64 {
        self.geometry.slot_bytes
    }

    /// How many records may be out at a time.
    #[must_use]
    pub const fn window(&self) -> u32 {
        self.geometry.rows
    }

    /// The longest record, in bytes: half of the ring, less its header.
    #[must_use]
    pub const fn record_bytes_max(&self) -> usize {
        let half = self.ring_bytes() / 2 / ALIGN * ALIGN;
        let most = half - RECORD_HEADER_BYTES as u64;
        // A record's length has 32 bits.
        if most < u32::MAX as u64 { most as usize } else { u32::MAX as usize }
    }

    /// Where a position of the ring lies in the segment.
    pub(super) const fn offset(&self, position: u64) -> usize {
        (self.geometry.slot_offset + position % self.ring_bytes()) as usize
    }
}

/// The geometry of the segment in which a consumer says which records it has given back.
pub(super) fn releases(window: u32) -> Option<Geometry> {
    let bytes = (u64::from(window) * 8).next_multiple_of(ALIGN);
    Geometry::new(Kind::Releases, window, 1, bytes)
}

/// Checks that a segment has a cell for each record of the window, right behind its header.
pub(super) fn check_releases(geometry: &Geometry, window: u32) -> Result<(), OpenError> {
    check_window(geometry)?;
    if geometry.rows != window {
        return Err(OpenError::Header("its window is another than the log's"));
    }
    if geometry.slot_offset != HEADER_BYTES as u64 || geometry.slot_bytes < u64::from(window) * 8 {
        return Err(OpenError::Header("its cells are not behind the header"));
    }
    Ok(())
}

fn check_window(geometry: &Geometry) -> Result<(), OpenError> {
    if geometry.rows > WINDOW_MAX {
        return Err(OpenError::Header("impossible window"));
    }
    if geometry.slots != 1 || geometry.columns != 0 {
        return Err(OpenError::Header("a log has one ring and no columns"));
    }
    Ok(())
}
