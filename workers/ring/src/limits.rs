//! What a peer may ask this process to take.

/// Bounds on what is taken from a peer, and passed to one.
///
/// A peer's segment costs address space when it is opened, and memory only where it is written or
/// read; a page is accounted to whoever touches it first. An overflow costs its size, once in shared
/// memory and once more in the copy that is read. At worst a reader holds
/// `segment_bytes_max + columns × slots × overflow_bytes_max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The largest segment that is opened, in bytes. 1 GiB.
    pub segment_bytes_max: u64,
    /// The largest ragged column of one batch that is passed beside it, in bytes, in both directions.
    /// 1 GiB; offsets have 32 bits, so that more than 4 GiB cannot be.
    pub overflow_bytes_max: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { segment_bytes_max: 1 << 30, overflow_bytes_max: 1 << 30 }
    }
}
