//! Segments: memfds that are sealed before anybody else sees them.

use std::{
    io,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
};

use rustix::fs::{MemfdFlags, SealFlags};

use crate::{
    error::OpenError,
    header::{Geometry, Kind},
    limits::Limits,
    memory::{Exclusive, Foreign, HEADER_BYTES},
};

/// What a peer can no longer do to a segment: change its size, get a writable mapping of it, or take
/// these seals off.
const SEALS: [(SealFlags, &str); 4] = [
    (SealFlags::SHRINK, "F_SEAL_SHRINK"),
    (SealFlags::GROW, "F_SEAL_GROW"),
    (SealFlags::FUTURE_WRITE, "F_SEAL_FUTURE_WRITE"),
    (SealFlags::SEAL, "F_SEAL_SEAL"),
];

/// The type of the file system that memfds of ordinary pages lie on. Those of huge pages lie on
/// another, and reading them can fail with a signal when the machine runs out of huge pages.
const TMPFS_MAGIC: i64 = 0x0102_1994;

/// Makes a segment with this header, maps it read-write, and seals it against everybody else.
pub(crate) fn create(header: &[u8; HEADER_BYTES], bytes: u64) -> io::Result<(OwnedFd, Exclusive)> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let segment = rustix::fs::memfd_create("envmill-ring", flags)?;
    rustix::fs::ftruncate(&segment, bytes)?;
    let bytes = usize::try_from(bytes).map_err(|_| io::ErrorKind::OutOfMemory)?;
    // The mapping comes first: after the seal not even we get another one.
    let mut memory = Exclusive::map(segment.as_fd(), bytes)?;
    seal(&segment, SealFlags::FUTURE_WRITE)?;
    if let Some(to) = memory.slice_mut(0, HEADER_BYTES) {
        to.copy_from_slice(header);
    }
    Ok((segment, memory))
}

/// Seals a memfd against changes of its size and of its seals, and `more`.
pub(crate) fn seal(memfd: &OwnedFd, more: SealFlags) -> io::Result<()> {
    let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL | more;
    Ok(rustix::fs::fcntl_add_seals(memfd, seals)?)
}

/// Opens a segment of the peer: a memfd whose size is bounded and cannot change, with a header of
/// this `kind` that describes it as it is.
pub(crate) fn open(
    segment: BorrowedFd<'_>,
    kind: Kind,
    limits: &Limits,
) -> Result<(Foreign, [u8; HEADER_BYTES], Geometry), OpenError> {
    let found = seals_of_memfd(segment)?.ok_or(OpenError::NoMemfd)?;
    let missing: Vec<&str> =
        SEALS.iter().filter(|(seal, _)| !found.contains(*seal)).map(|(_, name)| *name).collect();
    if !missing.is_empty() {
        return Err(OpenError::Seals { missing: missing.join(", ") });
    }
    // From here on the size is what it is for ever.
    let bytes = size(segment)?;
    if bytes < HEADER_BYTES as u64 {
        return Err(OpenError::Size { bytes, header: HEADER_BYTES as u64 });
    }
    if bytes > limits.segment_bytes_max {
        return Err(OpenError::TooLarge { bytes, bytes_max: limits.segment_bytes_max });
    }
    if !bytes.is_multiple_of(8) {
        return Err(OpenError::Header("the size is no multiple of 8"));
    }
    let memory = Foreign::map(segment, bytes as usize)?;
    let mut header = [0; HEADER_BYTES];
    memory.copy(0, &mut header).ok_or(OpenError::Header("the header is cut"))?;
    let geometry = Geometry::decode(&header, kind, bytes)?;
    Ok((memory, header, geometry))
}

/// The seals of a memfd of ordinary pages; `None` for any other descriptor.
pub(crate) fn seals_of_memfd(memfd: BorrowedFd<'_>) -> io::Result<Option<SealFlags>> {
    match rustix::fs::fcntl_get_seals(memfd) {
        Ok(seals) => {
            let plain = rustix::fs::fstatfs(memfd)?.f_type == TMPFS_MAGIC;
            Ok(plain.then_some(seals))
        }
        // What the kernel says of files that cannot be sealed.
        Err(rustix::io::Errno::INVAL) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

pub(crate) fn size(memfd: BorrowedFd<'_>) -> io::Result<u64> {
    let size = rustix::fs::fstat(memfd)?.st_size;
    u64::try_from(size).map_err(|_| io::ErrorKind::InvalidData.into())
}
