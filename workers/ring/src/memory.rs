//! Mapped memory: the one place where pages that another process sees are touched.
//!
//! Three views of two kinds of mapping. A segment of our own is mapped read-write and split in two:
//! [`Words`], atomics that several parts of this process share, and [`Exclusive`], which hands out
//! slices and has one owner. A segment of the peer is [`Foreign`]: mapped read-only, read by copying.

#![expect(unsafe_code, reason = "mapping memory and reading what another process writes")]

use std::{
    arch::asm,
    fmt, io,
    mem::size_of,
    os::fd::BorrowedFd,
    ptr::{self, NonNull},
    slice,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering, fence},
    },
};

use rustix::{
    io::Errno,
    mm::{Advice, MapFlags, ProtFlags},
};

use crate::element::Element;

/// Bytes of the header of every segment; what comes after it is the body.
pub(crate) const HEADER_BYTES: usize = 4096;

/// The 64-bit words of a header that change, by their offset.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Word {
    Published = 64,
    Released = 128,
}

/// The 32-bit words of a header that change, by their offset.
#[derive(Clone, Copy, Debug)]
pub(crate) enum SmallWord {
    Heartbeat = 192,
    State = 196,
}

/// A shared mapping of a whole segment, at least a header long.
struct Mapping {
    base: NonNull<u8>,
    bytes: usize,
}

// SAFETY: a mapping belongs to the process, not to a thread; `Mapping` itself has no methods that
// touch the memory, and the views below say who may do what.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    fn new(segment: BorrowedFd<'_>, bytes: usize, access: ProtFlags) -> io::Result<Self> {
        if bytes < HEADER_BYTES || !bytes.is_multiple_of(8) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        // SAFETY: a null address lets the kernel choose one that is free, so nothing that exists is
        // mapped over.
        let base = unsafe {
            rustix::mm::mmap(ptr::null_mut(), bytes, access, MapFlags::SHARED, segment, 0)?
        };
        let base = NonNull::new(base.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { base, bytes })
    }

    /// The address of `offset`, if the `len` bytes from there lie in `start..end` of the mapping and
    /// the address is a multiple of `align`.
    fn checked(
        &self,
        (start, end): (usize, usize),
        offset: usize,
        len: usize,
        align: usize,
    ) -> Option<NonNull<u8>> {
        let inside = start <= offset
            && offset.checked_add(len).is_some_and(|last| last <= end)
            && end <= self.bytes
            // The base is that of a page, so that an aligned offset is an aligned address.
            && offset.is_multiple_of(align);
        // SAFETY: `offset` lies within the mapping, or right behind it where `len` is 0.
        inside.then(|| unsafe { self.base.add(offset) })
    }

    /// A word of the header, which every mapping has and whose offset is a multiple of its size.
    fn word(&self, word: Word) -> &AtomicU64 {
        // SAFETY: within the first `HEADER_BYTES` bytes (checked in `new`), aligned, and accessed
        // as a 64-bit atomic only: `Exclusive` never covers the header once there are `Words`, and
        // the offsets of `Word` and `SmallWord` do not overlap. The memory lives as long as `self`.
        // A read-only mapping is reached through `ForeignWord` only, which does not store.
        unsafe { self.base.add(word as usize).cast().as_ref() }
    }

    fn small_word(&self, word: SmallWord) -> &AtomicU32 {
        // SAFETY: as in `word`, for 32 bits; `Foreign::small_word` does not store.
        unsafe { self.base.add(word as usize).cast().as_ref() }
    }

    /// The word of 8 bytes with this index behind the header, if it lies before `end`.
    ///
    /// # Safety
    ///
    /// Up to `end` the body is accessed as 64-bit atomics only, and not stored to if it is read-only.
    unsafe fn cell(&self, index: usize, end: usize) -> Option<&AtomicU64> {
        let offset = index.checked_mul(8)?.checked_add(HEADER_BYTES)?;
        let at = self.checked((HEADER_BYTES, end), offset, 8, 8)?;
        // SAFETY: in bounds and aligned (checked), and accessed as the caller promises. The memory
        // lives as long as `self`.
        Some(unsafe { at.cast().as_ref() })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: exactly what `new` mapped; every reference into it borrows from `self` or from a
        // view that keeps `self` alive. Unmapping a whole mapping does not fail.
        let _ = unsafe { rustix::mm::munmap(self.base.as_ptr().cast(), self.bytes) };
    }
}

impl fmt::Debug for Mapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mapping({} bytes)", self.bytes)
    }
}

/// A part of a segment of our own, with one owner, as slices.
///
/// The peer can map the segment read-only at most (`F_SEAL_FUTURE_WRITE`), and whether it reads what
/// is being written here is its own affair: nothing that this process does depends on it.
#[derive(Debug)]
pub(crate) struct Exclusive {
    mapping: Arc<Mapping>,
    start: usize,
    end: usize,
}

impl Exclusive {
    /// Maps a whole segment read-write, which must be one that only this call maps so: a memfd that
    /// was just made.
    pub(crate) fn map(segment: BorrowedFd<'_>, bytes: usize) -> io::Result<Self> {
        let mapping = Mapping::new(segment, bytes, ProtFlags::READ | ProtFlags::WRITE)?;
        Ok(Self { mapping: Arc::new(mapping), start: 0, end: bytes })
    }

    /// Has the kernel find all pages of the segment now, so that no later access waits for one. A kernel that
    /// cannot (before Linux 5.14) finds each when it is first needed, as without this.
    pub(crate) fn populate(&self) -> io::Result<()> {
        let Mapping { base, bytes } = *self.mapping;
        // SAFETY: the range is that of a mapping that may be written, and the advice neither changes what it
        // holds nor takes pages away.
        let advised =
            unsafe { rustix::mm::madvise(base.as_ptr().cast(), bytes, Advice::LinuxPopulateWrite) };
        match advised {
            Err(Errno::INVAL) => Ok(()),
            populated => Ok(populated?),
        }
    }

    /// Gives the header, and `cells` words of 8 bytes right behind it, to atomics; keeps the rest.
    pub(crate) fn split(self, cells: usize) -> (Words, Self) {
        let start = cells
            .checked_mul(8)
            .and_then(|bytes| bytes.checked_add(HEADER_BYTES))
            .map_or(self.end, |start| start.min(self.end));
        let words = Words { mapping: Arc::clone(&self.mapping), end: start };
        (words, Self { start, ..self })
    }

    /// `len` elements from `offset` (counted from the segment's start), if they lie in this part and
    /// are aligned.
    pub(crate) fn slice_mut<T: Element>(&mut self, offset: usize, len: usize) -> Option<&mut [T]> {
        let bytes = len.checked_mul(size_of::<T>())?;
        let at = self.mapping.checked((self.start, self.end), offset, bytes, size_of::<T>())?;
        // SAFETY: in bounds and aligned (checked), valid for every bit pattern (`Element` is sealed
        // over plain numbers). `self` is the only way into `start..end` in this process, and it is
        // borrowed mutably for as long as the slice lives.
        Some(unsafe { slice::from_raw_parts_mut(at.as_ptr().cast(), len) })
    }
}

/// The header of a segment of our own, and cells behind it, as atomics that may be shared.
#[derive(Clone, Debug)]
pub(crate) struct Words {
    mapping: Arc<Mapping>,
    end: usize,
}

impl Words {
    pub(crate) fn word(&self, word: Word) -> &AtomicU64 {
        self.mapping.word(word)
    }

    pub(crate) fn small_word(&self, word: SmallWord) -> &AtomicU32 {
        self.mapping.small_word(word)
    }

    /// The word of 8 bytes with this index behind the header.
    pub(crate) fn cell(&self, index: usize) -> Option<&AtomicU64> {
        // SAFETY: `Exclusive` begins where the cells end.
        unsafe { self.mapping.cell(index, self.end) }
    }
}

/// A segment of the peer, mapped read-only. The peer may write to it at any time, and any bytes.
///
/// Nothing here hands out a reference to its bytes: they are copied, or loaded as atomics.
#[derive(Debug)]
pub(crate) struct Foreign {
    mapping: Mapping,
}

/// A word of a foreign header: it can be loaded, and not stored to.
#[derive(Debug)]
pub(crate) struct ForeignWord<'a>(&'a AtomicU64);

impl ForeignWord<'_> {
    /// Loads it without any ordering: on read-only memory only such loads are promised to be plain
    /// loads.
    pub(crate) fn load_relaxed(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Foreign {
    /// Maps a segment read-only. It must be sealed against shrinking, so that no page of it can
    /// vanish under a read.
    pub(crate) fn map(segment: BorrowedFd<'_>, bytes: usize) -> io::Result<Self> {
        Ok(Self { mapping: Mapping::new(segment, bytes, ProtFlags::READ)? })
    }

    pub(crate) fn word(&self, word: Word) -> ForeignWord<'_> {
        ForeignWord(self.mapping.word(word))
    }

    pub(crate) fn small_word(&self, word: SmallWord) -> u32 {
        let value = self.mapping.small_word(word).load(Ordering::Relaxed);
        fence(Ordering::Acquire);
        value
    }

    /// The word of 8 bytes with this index behind the header.
    pub(crate) fn cell(&self, index: usize) -> Option<ForeignWord<'_>> {
        // SAFETY: a segment with cells is not read in any other way, and `ForeignWord` only loads.
        unsafe { self.mapping.cell(index, self.mapping.bytes) }.map(ForeignWord)
    }

    /// The address of `len` bytes at `offset`; `None` if they do not lie within the segment.
    pub(crate) fn address(&self, offset: usize, len: usize) -> Option<usize> {
        self.range::<u8>(offset, len).map(<*const u8>::addr)
    }

    /// Copies the elements at `offset` to `to`; `None` if they do not lie within the segment.
    pub(crate) fn copy<T: Element>(&self, offset: usize, to: &mut [T]) -> Option<()> {
        let from = self.range::<T>(offset, to.len())?;
        // SAFETY: `range` has checked the source; the destination is a slice of our own.
        unsafe { copy_shared(from, to.as_mut_ptr(), to.len()) };
        Some(())
    }

    /// Appends `len` elements at `offset` to `to`; `None`, and nothing appended, if they do not lie
    /// within the segment. Nothing is allocated before that is known.
    pub(crate) fn append<T: Element>(
        &self,
        offset: usize,
        len: usize,
        to: &mut Vec<T>,
    ) -> Option<()> {
        let from = self.range::<T>(offset, len)?;
        to.reserve(len);
        let before = to.len();
        // SAFETY: `range` has checked the source, and `len` more elements have been reserved behind
        // the `before` ones. After the copy they are initialised, and every bit pattern is valid.
        unsafe {
            copy_shared(from, to.as_mut_ptr().add(before), len);
            to.set_len(before + len);
        }
        Some(())
    }

    fn range<T: Element>(&self, offset: usize, len: usize) -> Option<*const T> {
        let bytes = len.checked_mul(size_of::<T>())?;
        let whole = (0, self.mapping.bytes);
        let at = self.mapping.checked(whole, offset, bytes, size_of::<T>())?;
        Some(at.as_ptr().cast())
    }
}

/// Copies memory that another process may be writing to.
///
/// What arrives may be a mixture of old and new bytes; every bit pattern is a valid `T`. The compiler
/// may assume of ordinary memory that it does not change, and could read the source again where only
/// the copy was checked. The empty assembly takes the copy's address and may, for all the compiler
/// knows, have written to it: from there on the copy alone is looked at.
///
/// # Safety
///
/// `from` is valid for reads and `to` for writes of `len` elements, both aligned; they do not overlap.
unsafe fn copy_shared<T: Element>(from: *const T, to: *mut T, len: usize) {
    // SAFETY: the caller's promise.
    unsafe { ptr::copy_nonoverlapping(from, to, len) };
    // SAFETY: no instruction at all.
    unsafe { asm!("/* {0} */", in(reg) to, options(nostack, preserves_flags)) };
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use rustix::fs::MemfdFlags;

    use super::*;

    const BYTES: usize = HEADER_BYTES + 128;

    fn memory() -> (Exclusive, Foreign) {
        let fd = rustix::fs::memfd_create("test", MemfdFlags::CLOEXEC).unwrap();
        rustix::fs::ftruncate(&fd, BYTES as u64).unwrap();
        (Exclusive::map(fd.as_fd(), BYTES).unwrap(), Foreign::map(fd.as_fd(), BYTES).unwrap())
    }

    #[test]
    fn no_access_leaves_its_part() {
        let (own, foreign) = memory();
        let (words, mut body) = own.split(2);
        assert!(body.slice_mut::<u8>(HEADER_BYTES + 15, 1).is_none());
        assert!(body.slice_mut::<u8>(BYTES, 1).is_none());
        assert!(body.slice_mut::<u8>(BYTES, 0).is_some());
        assert!(body.slice_mut::<u64>(HEADER_BYTES + 16, usize::MAX).is_none());
        assert!(body.slice_mut::<u8>(usize::MAX, 2).is_none());
        assert!(body.slice_mut::<u32>(HEADER_BYTES + 18, 1).is_none(), "unaligned");
        assert!(words.cell(1).is_some() && words.cell(2).is_none());
        assert!(words.cell(usize::MAX).is_none());
        assert!(foreign.copy(BYTES - 7, &mut [0_u8; 8]).is_none());
        assert!(foreign.copy(BYTES - 8, &mut [0_u8; 8]).is_some());
        assert!(foreign.append(8, usize::MAX, &mut Vec::<u16>::new()).is_none());
        assert!(foreign.cell(16).is_none());
    }

    #[test]
    fn what_is_written_is_seen_on_the_other_side() {
        let (own, foreign) = memory();
        let (words, mut body) = own.split(1);
        body.slice_mut::<u16>(HEADER_BYTES + 8, 3).unwrap().copy_from_slice(&[1, 2, 3]);
        words.word(Word::Published).store(7, Ordering::Release);
        words.small_word(SmallWord::State).store(5, Ordering::Release);
        words.cell(0).unwrap().store(9, Ordering::Release);
        assert_eq!(foreign.word(Word::Published).load_relaxed(), 7);
        assert_eq!(foreign.small_word(SmallWord::State), 5);
        assert_eq!(foreign.cell(0).unwrap().load_relaxed(), 9);
        let mut read = vec![0_u16];
        foreign.append(HEADER_BYTES + 8, 3, &mut read).unwrap();
        assert_eq!(read, [0, 1, 2, 3]);
    }
}
