//! Who may touch a slot when: two counters, each stored by one side and loaded by the other.
//!
//! `published` is how many batches a producer has published, `released` how many of them its consumer
//! has released again. Batch `k` lies in slot `k % slots`. The producer fills it while
//! `published <= k < released + slots`, the consumer reads it while `released <= k < published`: never
//! both. A store with release ordering hands the slot over, a load with acquire ordering takes it.
//!
//! The words are a trait so that loom plays all interleavings of this very code.

#[cfg(not(all(test, loom)))]
use std::sync::atomic::fence;
use std::sync::atomic::{AtomicU64, Ordering};

#[cfg(all(test, loom))]
use loom::sync::atomic::fence;

use crate::{error::CounterError, memory::ForeignWord};

/// A word that the other side stores to.
pub(crate) trait Load {
    fn load_relaxed(&self) -> u64;
}

/// A word that the other side loads.
pub(crate) trait Store {
    fn store(&self, value: u64, order: Ordering);
}

/// Loads a word so that what comes after sees what came before the store of its value.
pub(crate) fn acquire(word: &impl Load) -> u64 {
    let value = word.load_relaxed();
    fence(Ordering::Acquire);
    value
}

/// Stores to a word so that whoever acquires the value sees what came before.
pub(crate) fn release(word: &impl Store, value: u64) {
    word.store(value, Ordering::Release);
}

impl Load for ForeignWord<'_> {
    fn load_relaxed(&self) -> u64 {
        self.load_relaxed()
    }
}

impl Store for AtomicU64 {
    fn store(&self, value: u64, order: Ordering) {
        self.store(value, order);
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
        let found = acquire(released);
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
        release(published, self.published);
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
        let found = acquire(published);
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
        release(released, self.released);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    impl Load for AtomicU64 {
        fn load_relaxed(&self) -> u64 {
            self.load(Ordering::Relaxed)
        }
    }

    #[test]
    fn a_peer_that_releases_what_was_not_published_is_told() {
        let (published, released) = (AtomicU64::new(0), AtomicU64::new(0));
        let mut producer = Producer::new(2);
        assert_eq!(producer.publish(&published), 0);
        assert_eq!(producer.publish(&published), 1);
        assert!(!producer.has_room());
        released.store(3, Ordering::Release);
        let error = producer.learn(&released).unwrap_err();
        assert_eq!(error, CounterError { word: "released", found: 3, possible: 0..=2 });
        released.store(2, Ordering::Release);
        producer.learn(&released).unwrap();
        assert!(producer.has_room());
        released.store(1, Ordering::Release);
        assert!(producer.learn(&released).is_err(), "released batches stay released");
    }

    #[test]
    fn a_peer_that_publishes_more_than_there_are_slots_is_told() {
        let (published, released) = (AtomicU64::new(3), AtomicU64::new(0));
        let mut consumer = Consumer::new(2);
        let error = consumer.has_batch(&published).unwrap_err();
        assert_eq!(error, CounterError { word: "published", found: 3, possible: 0..=2 });
        published.store(1, Ordering::Release);
        assert!(consumer.has_batch(&published).unwrap());
        consumer.release(&released);
        published.store(0, Ordering::Release);
        assert!(consumer.has_batch(&published).is_err(), "published batches stay published");
    }
}

/// All interleavings, and all values that a weak memory may let each thread see.
#[cfg(all(test, loom))]
mod loom_tests {
    use loom::{
        sync::{Arc, atomic::AtomicU64},
        thread,
    };

    use super::{Consumer, Producer};
    use crate::loom_words::Guarded;

    /// Two words and the slots they guard.
    struct Segments {
        published: AtomicU64,
        released: AtomicU64,
        slots: Vec<Guarded>,
    }

    fn slots_are_never_shared(slots: u32, batches: u64) {
        loom::model(move || {
            let segments = Arc::new(Segments {
                published: AtomicU64::new(0),
                released: AtomicU64::new(0),
                slots: (0..slots).map(|_| Guarded::new()).collect(),
            });
            let shared = Arc::clone(&segments);
            let producing = thread::spawn(move || {
                let mut producer = Producer::new(slots);
                while producer.next() < batches {
                    if !producer.has_room() {
                        producer.learn(&shared.released).unwrap();
                    }
                    if !producer.has_room() {
                        thread::yield_now();
                        continue;
                    }
                    let next = producer.next();
                    shared.slots[(next % u64::from(slots)) as usize].write(next);
                    assert_eq!(producer.publish(&shared.published), next);
                }
            });
            let mut consumer = Consumer::new(slots);
            while consumer.next() < batches {
                if !consumer.has_batch(&segments.published).unwrap() {
                    thread::yield_now();
                    continue;
                }
                let next = consumer.next();
                let slot = &segments.slots[(next % u64::from(slots)) as usize];
                assert_eq!(slot.read(), next);
                consumer.release(&segments.released);
            }
            producing.join().unwrap();
        });
    }

    #[test]
    fn loom_one_slot_goes_to_and_fro() {
        slots_are_never_shared(1, 3);
    }

    #[test]
    fn loom_two_slots_overlap() {
        slots_are_never_shared(2, 3);
    }
}
