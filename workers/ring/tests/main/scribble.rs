//! A peer that writes to its segment whenever and whatever it wants.

#![expect(unsafe_code, reason = "a mapping of its own, kept behind the seals")]

use std::{
    os::fd::{BorrowedFd, OwnedFd},
    ptr,
    sync::atomic::{AtomicU8, Ordering},
};

use rustix::{
    fs::MemfdFlags,
    mm::{MapFlags, ProtFlags},
};

use crate::image;

/// A segment that its peer maps read-only, while this goes on writing to it.
pub(crate) struct Scribble {
    segment: OwnedFd,
    base: *mut u8,
    bytes: usize,
}

// SAFETY: the mapping belongs to the process, and is written to by atomic stores only.
unsafe impl Send for Scribble {}
// SAFETY: as above.
unsafe impl Sync for Scribble {}

impl Scribble {
    pub(crate) fn new(bytes: &[u8]) -> Self {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let segment = rustix::fs::memfd_create("scribble", flags).unwrap();
        rustix::fs::ftruncate(&segment, bytes.len() as u64).unwrap();
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: the kernel chooses a free address.
        let base = unsafe {
            rustix::mm::mmap(ptr::null_mut(), bytes.len(), access, MapFlags::SHARED, &segment, 0)
        };
        rustix::fs::fcntl_add_seals(&segment, image::SEALS).unwrap();
        let scribble = Self { segment, base: base.unwrap().cast(), bytes: bytes.len() };
        scribble.put(0, bytes);
        scribble
    }

    pub(crate) const fn segment(&self) -> &OwnedFd {
        &self.segment
    }

    pub(crate) fn put(&self, at: usize, bytes: &[u8]) {
        assert!(at + bytes.len() <= self.bytes);
        for (index, byte) in bytes.iter().enumerate() {
            // SAFETY: within the mapping, which lives as long as `self`; only atomics access it here.
            let cell = unsafe { AtomicU8::from_ptr(self.base.add(at + index)) };
            cell.store(*byte, Ordering::Relaxed);
        }
    }
}

/// Whether the first page of a segment can be mapped so that it can be written to.
pub(crate) fn can_map_writable(segment: BorrowedFd<'_>) -> bool {
    let access = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: the kernel chooses a free address.
    let base =
        unsafe { rustix::mm::mmap(ptr::null_mut(), 4096, access, MapFlags::SHARED, segment, 0) };
    // SAFETY: exactly what was mapped, and nothing refers to it.
    base.is_ok_and(|base| unsafe { rustix::mm::munmap(base, 4096) }.is_ok())
}

impl Drop for Scribble {
    fn drop(&mut self) {
        // SAFETY: exactly what was mapped, and nothing refers to it any more.
        unsafe { rustix::mm::munmap(self.base.cast(), self.bytes) }.unwrap();
    }
}
