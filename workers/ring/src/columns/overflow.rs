//! Ragged columns that did not fit: each in a memfd of its own, passed beside its batch.

use std::{
    io,
    os::fd::{AsFd as _, OwnedFd},
};

use rustix::{
    buffer::spare_capacity,
    fs::{MemfdFlags, SealFlags},
};

use crate::{
    error::OverflowError,
    header::{put_u32, put_u64, u32_at, u64_at},
    segment,
};

/// `OVFL`, read as a number from left to right.
const TAG: u32 = 0x4F56_464C;

/// A ragged column's rows that did not fit into its arena: one after another in a memfd of exactly
/// their size, sealed against every change.
#[derive(Debug)]
pub struct OverflowColumn {
    /// The column's index.
    pub column: usize,
    /// The memory.
    pub memory: OwnedFd,
}

/// The message that goes with the memory of one column that did not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OverflowMessage {
    /// The batch that the column belongs to.
    pub sequence: u64,
    /// The column's index.
    pub column: u32,
}

impl OverflowMessage {
    /// Its bytes: the tag, the column, the sequence.
    #[must_use]
    pub fn encode(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        put_u32(&mut bytes, 0, TAG);
        put_u32(&mut bytes, 4, self.column);
        put_u64(&mut bytes, 8, self.sequence);
        bytes
    }

    /// Reads a message; `None` if it is another one.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes.len() != 16 || u32_at(bytes, 0) != TAG {
            return None;
        }
        Some(Self { sequence: u64_at(bytes, 8), column: u32_at(bytes, 4) })
    }
}

/// Puts `bytes` into a memfd that nobody can change any more.
pub(super) fn create(bytes: &[u8]) -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let memory = rustix::fs::memfd_create("envmill-ring-overflow", flags)?;
    let mut written = 0;
    while written < bytes.len() {
        // The position of the file, which the peer gets too, stays at its beginning.
        match rustix::io::pwrite(&memory, &bytes[written..], written as u64) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(more) => written += more,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    segment::seal(&memory, SealFlags::WRITE)?;
    Ok(memory)
}

/// What a peer has passed beside a batch: sealed against every change, and of a bounded size.
#[derive(Debug)]
pub(super) struct Attached {
    pub(super) sequence: u64,
    pub(super) column: usize,
    memory: OwnedFd,
    bytes: u32,
}

impl Attached {
    pub(super) fn new(
        sequence: u64,
        column: usize,
        memory: OwnedFd,
        bytes_max: u32,
    ) -> Result<Self, OverflowError> {
        let sealed = SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
        let found = segment::seals_of_memfd(memory.as_fd())?;
        if !found.is_some_and(|seals| seals.contains(sealed)) {
            return Err(OverflowError::NotSealed);
        }
        let bytes = segment::size(memory.as_fd())?;
        match u32::try_from(bytes) {
            Ok(bytes) if bytes <= bytes_max => Ok(Self { sequence, column, memory, bytes }),
            _ => Err(OverflowError::TooLarge { bytes, bytes_max }),
        }
    }

    pub(super) const fn bytes(&self) -> u32 {
        self.bytes
    }

    /// Reads all of it. Reading a file needs neither a mapping nor a second copy.
    pub(super) fn read(&self) -> io::Result<Vec<u8>> {
        let bytes = self.bytes as usize;
        let mut read = Vec::with_capacity(bytes);
        while read.len() < bytes {
            let at = read.len() as u64;
            match rustix::io::pread(&self.memory, spare_capacity(&mut read), at) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        // The allocation may have been larger than asked for; the file is not.
        read.truncate(bytes);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_has_the_bytes_of_the_contract() {
        let message = OverflowMessage { sequence: 0x0102_0304_0506_0708, column: 3 };
        let bytes = message.encode();
        assert_eq!(&bytes, b"LFVO\x03\0\0\0\x08\x07\x06\x05\x04\x03\x02\x01");
        assert_eq!(OverflowMessage::decode(&bytes), Some(message));
        assert_eq!(OverflowMessage::decode(&bytes[..15]), None);
        assert_eq!(
            OverflowMessage::decode(b"OVFL\x03\0\0\0\x08\x07\x06\x05\x04\x03\x02\x01"),
            None
        );
    }
}
