//! Segments as bytes: taken from a writer, and made into segments again.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{MemfdFlags, SealFlags};

/// What a peer is expected to seal a segment with.
pub(crate) const SEALS: SealFlags =
    SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::FUTURE_WRITE).union(SealFlags::SEAL);

/// What is to be passed beside a batch is sealed against every change.
pub(crate) const OVERFLOW_SEALS: SealFlags =
    SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::WRITE).union(SealFlags::SEAL);

/// All bytes of a memfd.
pub(crate) fn read(memfd: impl AsFd) -> Vec<u8> {
    let mut bytes = vec![0; rustix::fs::fstat(&memfd).unwrap().st_size as usize];
    let mut at = 0;
    while at < bytes.len() {
        let read = rustix::io::pread(&memfd, &mut bytes[at..], at as u64).unwrap();
        assert!(read > 0);
        at += read;
    }
    bytes
}

/// A memfd with these bytes and these seals.
pub(crate) fn memfd(bytes: &[u8], seals: SealFlags) -> OwnedFd {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let memfd = rustix::fs::memfd_create("image", flags).unwrap();
    let mut at = 0;
    while at < bytes.len() {
        at += rustix::io::pwrite(&memfd, &bytes[at..], at as u64).unwrap();
    }
    rustix::fs::fcntl_add_seals(&memfd, seals).unwrap();
    memfd
}

/// A segment with these bytes, as a peer would have made it.
pub(crate) fn segment(bytes: &[u8]) -> OwnedFd {
    memfd(bytes, SEALS)
}

pub(crate) fn put_u32(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

pub(crate) fn put_u64(bytes: &mut [u8], at: usize, value: u64) {
    bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
}
