//! Who may touch a slot when: two counters, each stored by one side and loaded by the other.
//!
//! `published` is how many batches a producer has published, `released` how many of them its consumer
//! has released again. Batch `k` lies in slot `k % slots`. The producer fills it while
//! `published <= k < released + slots`, the consumer reads it while `released <= k < published`: never
//! both. A store with release ordering hands the slot over, a load with acquire ordering takes it.
//!
//! The words are a trait so that loom plays all interleavings of this very code.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::{error::CounterError, memory::ForeignWord};

/// A word that can be loaded.
pub(crate) trait Load {
    fn load(&self, order: Ordering) -> u64;
}

/// A word that can be stored to.
pub(crate) trait Store {
    fn store(&self, value: u64, order: Ordering);
}

impl Store for AtomicU64 {
    fn store(&self, value: u64, order: Ordering) {
        self.store(value, order);
    }
}

impl Load for ForeignWord<'_> {
    fn load(&self, order: Ordering) -> u64 {
        self.load(order)
    }
}

/// The producer's side: what it has published, and what it knows to be released.
#[derive(Debug)]
pub(crate) struct Producer {
    slots: u64,
    published: u64,
    released: u64,
}

impl Producer {
    pub(crate) fn new(slots: u32) -> Self {
        Self { slots: u64::from(slots), published: 0, released: 0 }
    }

    /// The number of the batch that is published next.
    pub(crate) const fn next(&self) -> u64 {
        self.published
    }

    /// How many published batches are not known to be released.
    pub(crate) const fn unreleased(&self) -> u64 {
        self.published - self.released
    }

    /// Whether the slot of the next batch is free. Looks at the peer's word only if what is known
    /// does not suffice.
    pub(crate) fn has_room(&self) -> bool {
        self.unreleased() < self.slots
    }

    /// Learns from the consumer's word what has been released.
    pub(crate) fn learn(&mut self, released: &impl Load) -> Result<(), CounterError> {
        // Acquire: the consumer's reads of a slot come before the writes that reuse it.
        let found = released.load(Ordering::Acquire);
        let possible = self.released..=self.published;
        if !possible.contains(&found) {
            return Err(CounterError { word: "released", found, possible });
        }
        self.released = found;
        Ok(())
    }

    /// Hands the next batch's slot to the consumer.
    pub(crate) fn publish(&mut self, published: &impl Store) -> u64 {
        let sequence = self.published;
        self.published += 1;
        // Release: whoever sees the new number sees the slot as it was written.
        published.store(self.published, Ordering::Release);
        sequence
    }
}

/// The consumer's side: what it has released, and what it knows to be published.
#[derive(Debug)]
pub(crate) struct Consumer {
    slots: u64,
    released: u64,
    published: u64,
}

impl Consumer {
    pub(crate) fn new(slots: u32) -> Self {
        Self { slots: u64::from(slots), released: 0, published: 0 }
    }

    /// The number of the batch that is read next.
    pub(crate) const fn next(&self) -> u64 {
        self.released
    }

    /// Whether the next batch is there to be read.
    pub(crate) fn has_batch(&mut self, published: &impl Load) -> Result<bool, CounterError> {
        if self.released < self.published {
            return Ok(true);
        }
        // Acquire: the slot is read as it was when this number was stored.
        let found = published.load(Ordering::Acquire);
        let possible = self.published..=self.released.saturating_add(self.slots);
        if !possible.contains(&found) {
            return Err(CounterError { word: "published", found, possible });
        }
        self.published = found;
        Ok(self.released < found)
    }

    /// Hands the slot that was read last back to the producer.
    pub(crate) fn release(&mut self, released: &impl Store) {
        self.released += 1;
        // Release: all reads of the slot come before the producer sees it free.
        released.store(self.released, Ordering::Release);
    }
}
