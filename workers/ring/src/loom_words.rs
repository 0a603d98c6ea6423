//! Loom's atomics behind the traits of the protocol, and cells that it watches.
//!
//! The protocol's code is the one that ships: only the words it is called with are loom's.

#![expect(unsafe_code, reason = "cells that loom watches are accessed through pointers")]

use std::sync::atomic::Ordering;

use loom::{cell::UnsafeCell, sync::atomic::AtomicU64};

use crate::protocol::{Load, Store};

impl Load for AtomicU64 {
    fn load_relaxed(&self) -> u64 {
        self.load(Ordering::Relaxed)
    }
}

impl Store for AtomicU64 {
    fn store(&self, value: u64, order: Ordering) {
        self.store(value, order);
    }
}

/// Memory that the protocol guards: loom panics where two threads access it unordered.
pub(crate) struct Guarded(UnsafeCell<u64>);

// SAFETY: loom checks each access, which is what its tests are for.
unsafe impl Sync for Guarded {}

impl Guarded {
    pub(crate) fn new() -> Self {
        Self(UnsafeCell::new(u64::MAX))
    }

    pub(crate) fn write(&self, value: u64) {
        // SAFETY: a pointer to a live cell; loom panics where the access is not exclusive.
        self.0.with_mut(|cell| unsafe { *cell = value });
    }

    pub(crate) fn read(&self) -> u64 {
        // SAFETY: as in `write`, for an access that may be shared.
        self.0.with(|cell| unsafe { *cell })
    }
}
