//! Which records were taken, counted where they are taken.
//!
//! The task that talks to the service is told only when there is room that is worth a message, and not woken
//! for each record.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::RolloutsOptions;

/// Records that were taken, and that nobody was told of.
#[derive(Debug)]
pub(crate) struct Taken {
    records: AtomicU64,
    bytes: AtomicU64,
    window_records: u64,
    window_bytes: u64,
}

impl Taken {
    pub(crate) const fn new(options: &RolloutsOptions) -> Self {
        Self {
            records: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            window_records: options.window_records,
            window_bytes: options.window_bytes,
        }
    }

    /// A record of so many bytes was taken. Whether it is time to tell.
    pub(crate) fn add(&self, bytes: u64) -> bool {
        // Whoever is told adds it all up again: an order there is only within each of them.
        let records = self.records.fetch_add(1, Ordering::Relaxed) + 1;
        let bytes = self.bytes.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        is_worth_it(records, self.window_records) || is_worth_it(bytes, self.window_bytes)
    }

    /// All records that were taken since the last look, and their bytes.
    pub(crate) fn all(&self) -> (u64, u64) {
        (self.records.swap(0, Ordering::Relaxed), self.bytes.swap(0, Ordering::Relaxed))
    }
}

/// Whether so much of a window is worth a message: a quarter. What is held, granted, and taken and not told
/// of fills a window, so that there is always one of them to go on with.
pub(crate) const fn is_worth_it(part: u64, window: u64) -> bool {
    let window = if window == 0 { 1 } else { window };
    part >= window.div_ceil(4)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(window_records: u64, window_bytes: u64) -> Taken {
        Taken::new(&RolloutsOptions { window_records, window_bytes, ..RolloutsOptions::default() })
    }

    #[test]
    fn a_quarter_of_a_window_is_told() {
        let taken = taken(8, 1000);
        assert!(!taken.add(10));
        assert!(taken.add(10), "two records of eight");
        assert_eq!(taken.all(), (2, 20));
        assert_eq!(taken.all(), (0, 0));
        assert!(taken.add(250), "their bytes");
    }

    #[test]
    fn each_is_told_where_a_window_holds_no_more() {
        assert!(taken(0, 0).add(0));
        assert!(taken(4, 1 << 20).add(0));
        assert!(taken(1024, 4).add(5), "one that is larger than the window");
    }
}
