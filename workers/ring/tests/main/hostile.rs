//! A peer that writes nonsense gets an error, whatever it writes and whenever.

use std::{
    fs,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd},
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use envmill_ring::{
    ColumnsReader, ColumnsWriter, CounterError, Layout, Limits, LogError, LogLayout, LogReader,
    LogStart, LogWriter, OpenError, OverflowError, RaggedRows, ReadError,
};
use proptest::{collection::vec, prelude::*};
use rustix::{
    fs::{FallocateFlags, SealFlags},
    io::Errno,
};

use crate::{
    image::{self, put_u32, put_u64},
    scribble::{Scribble, can_map_writable},
    sides::{ID, KIND, POSE, TEXT, publish, steps},
};

/// Where the header describes the column `text`.
const TEXT_DESCRIPTOR: usize = 256 + 128 * TEXT;

/// Where the slot of batch 0 begins, and where the offsets of `text` lie in it.
const SLOT: usize = 4096;
const TEXT_OFFSETS: usize = SLOT + 64 + 3 * 64;

/// A segment of `steps` with two batches, as bytes.
fn columns() -> Vec<u8> {
    let mut writer = ColumnsWriter::create(steps()).unwrap();
    let _ = publish(&mut writer, 1, &[b"one", b"two"]);
    let _ = publish(&mut writer, 2, &[b"three"]);
    image::read(&writer)
}

fn acknowledging() -> ColumnsWriter {
    ColumnsWriter::create(Layout::new(1, 1, []).unwrap()).unwrap()
}

fn open(segment: BorrowedFd<'_>) -> Result<ColumnsReader, OpenError> {
    acknowledging().connect(segment, &Limits::default())
}

fn opened(bytes: &[u8]) -> Result<ColumnsReader, OpenError> {
    open(image::segment(bytes).as_fd())
}

/// Reads all that there is, as far as it goes.
fn read_all(reader: &mut ColumnsReader) -> Result<usize, ReadError> {
    let (mut ids, mut kinds, mut poses) = (Vec::<u64>::new(), Vec::<u8>::new(), Vec::<f32>::new());
    let mut texts = RaggedRows::new();
    let mut rows = 0;
    while let Some(batch) = reader.next_batch()? {
        batch.fixed(ID, &mut ids)?;
        batch.fixed(KIND, &mut kinds)?;
        batch.fixed(POSE, &mut poses)?;
        // Beside the batch a column has no bounds in it.
        let mut bounds = Vec::new();
        if batch.ragged_bounds(TEXT, &mut bounds).is_ok() {
            for it in bounds.windows(2) {
                batch.copy_ragged(TEXT, it[0]..it[1], &mut kinds)?;
            }
        }
        batch.ragged(TEXT, &mut texts)?;
        rows += texts.iter().map(|text| text.len()).sum::<usize>() + batch.rows();
        batch.release();
    }
    Ok(rows)
}

#[test]
fn the_untouched_segment_is_read() {
    assert_eq!(read_all(&mut opened(&columns()).unwrap()).unwrap(), 3 + 11);
}

#[test]
fn every_field_of_the_header_is_checked() {
    let whole = columns();
    let total = whole.len() as u64;
    let slot_bytes = (total - 4096) / 2;
    let numbers_32: [(usize, &[u32]); 11] = [
        (8, &[0, 2, u32::MAX]),
        (12, &[0, 2, 3, 4]),
        (24, &[0, 6, 1 << 24, u32::MAX]),
        (28, &[0, 3, 65, u32::MAX]),
        (48, &[5, 24, 25, u32::MAX]),
        (TEXT_DESCRIPTOR + 64, &[0x0200, 0x020C, 0x0202, 0x0001, 0x0301, 0x0001_0201]),
        // `pose` with no dimension of 0, and no more than four.
        (256 + 128 * POSE + 64, &[0x0005_0109, 0x00FF_0109]),
        (256 + 128 * POSE + 68, &[0, 100, u32::MAX]),
        // Names: empty, the same twice, no UTF-8, and bytes behind the end.
        (TEXT_DESCRIPTOR, &[0, u32::from_le_bytes(*b"te\0t"), u32::MAX]),
        (256 + 128 * KIND + 60, &[1]),
        (256 + 128 * ID, &[u32::from_le_bytes(*b"i\0d\0")]),
    ];
    let numbers_64: [(usize, &[u64]); 8] = [
        (0, &[0, u64::MAX]),
        (16, &[0, 4096, total - 64, total + 64, u64::MAX]),
        (32, &[0, 64, 4095, 4097, 4160, total, u64::MAX - 63, u64::MAX]),
        (40, &[0, 63, 64, slot_bytes + 1, slot_bytes + 64, u64::MAX - 63, 1 << 63]),
        (256 + 88, &[0, 65, 128, slot_bytes, u64::MAX - 63]),
        (TEXT_DESCRIPTOR + 88, &[0, 64, 257, slot_bytes - 64 + 1, u64::MAX - 63]),
        (TEXT_DESCRIPTOR + 96, &[0, 64, 256, 321, slot_bytes, u64::MAX - 63]),
        (TEXT_DESCRIPTOR + 104, &[65, slot_bytes, 1 << 32, u64::MAX]),
    ];
    for (at, values) in numbers_32 {
        for value in values {
            let mut bytes = whole.clone();
            put_u32(&mut bytes, at, *value);
            assert!(opened(&bytes).is_err(), "{value:#x} at {at}");
        }
    }
    for (at, values) in numbers_64 {
        for value in values {
            let mut bytes = whole.clone();
            put_u64(&mut bytes, at, *value);
            assert!(opened(&bytes).is_err(), "{value:#x} at {at}");
        }
    }
}

#[test]
fn two_columns_of_one_name_are_refused() {
    let mut bytes = columns();
    bytes.copy_within(256..256 + 64, TEXT_DESCRIPTOR);
    assert!(matches!(opened(&bytes), Err(OpenError::Column { column: TEXT, .. })));
}

#[test]
fn only_sealed_memfds_of_a_bounded_size_are_mapped() {
    let bytes = columns();
    for missing in [
        SealFlags::SHRINK,
        SealFlags::GROW,
        SealFlags::FUTURE_WRITE,
        // Without it the others could not be taken off either, but the format says so.
        SealFlags::SEAL,
    ] {
        let memfd = image::memfd(&bytes, image::SEALS.difference(missing));
        assert!(matches!(open(memfd.as_fd()), Err(OpenError::Seals { .. })), "{missing:?}");
    }
    let short = image::segment(&bytes[..4095]);
    assert!(matches!(open(short.as_fd()), Err(OpenError::Size { bytes: 4095, .. })));
    let empty = image::segment(&[]);
    assert!(matches!(open(empty.as_fd()), Err(OpenError::Size { bytes: 0, .. })));
    let odd = image::segment(&bytes[..bytes.len() - 1]);
    assert!(matches!(open(odd.as_fd()), Err(OpenError::Header(_))));
    let file = tempfile::tempfile().unwrap();
    fs::File::set_len(&file, 1 << 20).unwrap();
    assert!(matches!(open(file.as_fd()), Err(OpenError::NoMemfd | OpenError::Seals { .. })));
    let (reader, _writer) = std::io::pipe().unwrap();
    assert!(matches!(open(reader.as_fd()), Err(OpenError::NoMemfd)));
    let limits = Limits { segment_bytes_max: bytes.len() as u64 - 1, ..Limits::default() };
    let large = acknowledging().connect(image::segment(&bytes).as_fd(), &limits);
    assert!(matches!(large, Err(OpenError::TooLarge { .. })));
}

#[test]
fn whoever_gets_a_segment_can_only_read_it() {
    let writer = ColumnsWriter::create(steps()).unwrap();
    let theirs = writer.as_fd().try_clone_to_owned().unwrap();
    let path = format!("/proc/self/fd/{}", theirs.as_raw_fd());
    let reopened = fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    for fd in [theirs.as_fd(), reopened.as_fd()] {
        assert_eq!(rustix::io::pwrite(fd, b"x", 4096), Err(Errno::PERM));
        assert_eq!(rustix::fs::ftruncate(fd, 0), Err(Errno::PERM));
        assert_eq!(rustix::fs::ftruncate(fd, 1 << 20), Err(Errno::PERM));
        let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        assert_eq!(rustix::fs::fallocate(fd, hole, 0, 4096), Err(Errno::PERM));
        assert_eq!(rustix::fs::fcntl_add_seals(fd, SealFlags::WRITE), Err(Errno::PERM));
        assert!(!can_map_writable(fd));
    }
    assert!(open(theirs.as_fd()).is_ok());
}

#[test]
fn counters_that_cannot_be_are_refused() {
    for (published, fails) in [(0, false), (1, false), (3, true), (u64::MAX, true)] {
        let mut bytes = columns();
        put_u64(&mut bytes, 64, published);
        let read = read_all(&mut opened(&bytes).unwrap());
        assert_eq!(matches!(read, Err(ReadError::Counter(_))), fails, "{published}");
    }
    let mut bytes = columns();
    put_u64(&mut bytes, 128, 1);
    let mut writer = ColumnsWriter::create(steps()).unwrap();
    let segment = image::segment(&bytes);
    let _reader = writer.connect(segment.as_fd(), &Limits::default()).unwrap();
    for _ in 0..3 {
        let _ = publish(&mut writer, 0, &[]);
    }
    assert!(writer.begin().unwrap().is_none());
    put_u64(&mut bytes, 128, 7);
    let mut writer = ColumnsWriter::create(steps()).unwrap();
    let segment = image::segment(&bytes);
    let _reader = writer.connect(segment.as_fd(), &Limits::default()).unwrap();
    for _ in 0..2 {
        let _ = publish(&mut writer, 0, &[]);
    }
    let error = writer.begin().unwrap_err();
    assert_eq!(error, CounterError { word: "released", found: 7, possible: 0..=2 });
}

#[test]
fn batches_that_cannot_be_are_refused() {
    type Check = fn(&ReadError) -> bool;
    let cases: [(usize, u32, Check); 10] = [
        (SLOT, 1, |e| matches!(e, ReadError::Sequence { expected: 0, found: 1 })),
        (SLOT + 4, 1, |e| matches!(e, ReadError::Sequence { .. })),
        (SLOT + 8, 5, |e| matches!(e, ReadError::Rows { found: 5, rows_max: 4 })),
        (SLOT + 8, u32::MAX, |e| matches!(e, ReadError::Rows { .. })),
        (SLOT + 12, 1, |e| matches!(e, ReadError::OverflowColumns(1))),
        (SLOT + 12, 1 << 31, |e| matches!(e, ReadError::OverflowColumns(_))),
        (TEXT_OFFSETS, 1, |e| matches!(e, ReadError::Offsets { column: TEXT })),
        (TEXT_OFFSETS + 4, 7, |e| matches!(e, ReadError::Offsets { column: TEXT })),
        (TEXT_OFFSETS + 8, 65, |e| matches!(e, ReadError::Offsets { column: TEXT })),
        (TEXT_OFFSETS + 8, u32::MAX, |e| matches!(e, ReadError::Offsets { column: TEXT })),
    ];
    for (at, value, check) in cases {
        let mut bytes = columns();
        put_u32(&mut bytes, at, value);
        let error = read_all(&mut opened(&bytes).unwrap()).unwrap_err();
        assert!(check(&error), "{value} at {at}: {error}");
    }
}

#[test]
fn what_is_passed_beside_a_batch_is_checked() {
    let mut bytes = columns();
    put_u32(&mut bytes, SLOT + 12, 1 << TEXT);
    let limits = Limits { overflow_bytes_max: 1000, ..Limits::default() };
    let mut writer = acknowledging();
    let mut reader = writer.connect(image::segment(&bytes).as_fd(), &limits).unwrap();
    assert!(reader.next_batch().unwrap().is_none(), "its column has not come");
    let sealed = |bytes: &[u8]| image::memfd(bytes, image::OVERFLOW_SEALS);
    for (sequence, column) in [(2, TEXT), (u64::MAX, TEXT), (0, ID), (0, 4), (0, usize::MAX)] {
        let attached = reader.attach_overflow(sequence, column, sealed(b"onetwo"));
        assert!(matches!(attached, Err(OverflowError::Unexpected { .. })), "{sequence} {column}");
    }
    let open = image::memfd(b"onetwo", image::SEALS);
    assert!(matches!(reader.attach_overflow(0, TEXT, open), Err(OverflowError::NotSealed)));
    let no_memfd = std::io::pipe().unwrap().0.into();
    assert!(matches!(reader.attach_overflow(0, TEXT, no_memfd), Err(OverflowError::NotSealed)));
    let large = sealed(&[0; 1001]);
    assert!(matches!(
        reader.attach_overflow(0, TEXT, large),
        Err(OverflowError::TooLarge { bytes: 1001, bytes_max: 1000 })
    ));
    reader.attach_overflow(0, TEXT, sealed(b"another size")).unwrap();
    let again = reader.attach_overflow(0, TEXT, sealed(b"onetwo"));
    assert!(matches!(again, Err(OverflowError::Unexpected { .. })));
    assert!(matches!(read_all(&mut reader), Err(ReadError::Offsets { column: TEXT })));
}

/// A ring of 4 KiB with three records, of which the last is at 128.
fn log() -> Vec<u8> {
    let mut writer = LogWriter::create(LogLayout::new(4096, 4).unwrap()).unwrap();
    for record in [&b"one"[..], b"two", &[3; 500]] {
        writer.append(record, 0).unwrap().unwrap();
    }
    image::read(&writer)
}

fn opened_log(bytes: &[u8]) -> Result<LogReader, OpenError> {
    let segment = image::segment(bytes);
    LogReader::open(segment.as_fd(), LogStart::default(), &Limits::default())
}

fn read_log(reader: &mut LogReader) -> Result<usize, LogError> {
    let mut bytes = Vec::new();
    while let Some(lease) = reader.next_record()? {
        lease.append_to(&mut bytes)?;
    }
    Ok(bytes.len())
}

#[test]
fn a_log_that_cannot_be_is_refused() {
    assert_eq!(read_log(&mut opened_log(&log()).unwrap()), Ok(506));
    for (at, value) in [(8, 2), (12, 1), (12, 3), (24, 0), (24, 1 << 21), (28, 2), (48, 1)] {
        let mut bytes = log();
        put_u32(&mut bytes, at, value);
        assert!(opened_log(&bytes).is_err(), "{value} at {at}");
    }
    for (at, value) in [(16, 4096), (32, 0), (32, 4160), (40, 64), (40, 4160), (40, u64::MAX)] {
        let mut bytes = log();
        put_u64(&mut bytes, at, value);
        assert!(opened_log(&bytes).is_err(), "{value} at {at}");
    }
    type Check = fn(&LogError) -> bool;
    let cases: [(usize, u64, Check); 8] = [
        (64, 63, |e| matches!(e, LogError::Counter(_))),
        (64, 4160, |e| matches!(e, LogError::Counter(_))),
        (64, u64::MAX, |e| matches!(e, LogError::Counter(_))),
        (4096, 0xFFFF_FFFF, |e| matches!(e, LogError::Length { position: 0, .. })),
        (4096 + 128, 700, |e| matches!(e, LogError::Length { position: 128, .. })),
        (4096 + 8, 1, |e| matches!(e, LogError::Sequence { expected: 0, found: 1 })),
        (4096 + 64 + 8, u64::MAX, |e| matches!(e, LogError::Sequence { .. })),
        (4096, 48 | 1 << 32, |e| matches!(e, LogError::Padding { position: 0 })),
    ];
    for (at, value, check) in cases {
        let mut bytes = log();
        put_u64(&mut bytes, at, value);
        let error = read_log(&mut opened_log(&bytes).unwrap()).unwrap_err();
        assert!(check(&error), "{value} at {at}: {error}");
    }
    for position in [1, 64, 4096, u64::MAX, u64::MAX - 63] {
        let start = LogStart { position, sequence: 0 };
        let segment = image::segment(&log());
        let mut reader = LogReader::open(segment.as_fd(), start, &Limits::default()).unwrap();
        assert!(read_log(&mut reader).is_err(), "{position}");
    }
}

#[test]
fn releases_that_cannot_be_are_refused_or_ignored() {
    let mut writer = LogWriter::create(LogLayout::new(4096, 4).unwrap()).unwrap();
    let limits = Limits::default();
    let reader = LogReader::open(writer.as_fd(), writer.start(), &limits).unwrap();
    let releases = image::read(&reader);
    for (at, value) in [(12, 2), (24, 3), (24, 5), (28, 2), (48, 1)] {
        let mut bytes = releases.clone();
        put_u32(&mut bytes, at, value);
        let connected = writer.connect(image::segment(&bytes).as_fd(), &limits);
        assert!(connected.is_err(), "{value} at {at}");
    }
    let mut nonsense = releases;
    nonsense[4096..].fill(0xEE);
    writer.connect(image::segment(&nonsense).as_fd(), &limits).unwrap();
    let records = std::iter::from_fn(|| writer.append(b"x", 0).unwrap()).count();
    assert_eq!(records, 4, "nothing was given back");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..Default::default() })]

    /// Whatever the segment holds, opening and reading it comes to an end.
    #[test]
    fn any_bytes_are_read_or_refused(
        changes in vec((prop_oneof![0_usize..832, 4096_usize..4800], any::<u8>()), 1..10),
        is_log in any::<bool>(),
    ) {
        let mut bytes = if is_log { log() } else { columns() };
        for (at, byte) in changes {
            if let Some(changed) = bytes.get_mut(at) {
                *changed = byte;
            }
        }
        if is_log {
            let _ = opened_log(&bytes).map(|mut reader| read_log(&mut reader));
        } else {
            let _ = opened(&bytes).map(|mut reader| read_all(&mut reader));
        }
    }
}

/// While a peer changes everything that it can, the reader gets errors or nonsense, and nothing else.
#[test]
fn a_segment_may_change_while_it_is_read() {
    let bytes = columns();
    let scribble = Scribble::new(&bytes);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut state = 1_u64;
            while !done.load(Ordering::Relaxed) {
                // Knuth's generator is random enough for nonsense.
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let at = (state >> 33) as usize % bytes.len();
                scribble.put(at, &[(state >> 56) as u8]);
                // The words that decide are right often enough for the reader to get far.
                scribble.put(0, &bytes[..600]);
                scribble.put(SLOT, &bytes[SLOT..SLOT + 16]);
                scribble.put(TEXT_OFFSETS, &bytes[TEXT_OFFSETS..TEXT_OFFSETS + 8]);
            }
        });
        let (mut read, mut refused) = (0, 0);
        for _ in 0..3000 {
            let Ok(mut reader) = open(scribble.segment().as_fd()) else {
                refused += 1;
                continue;
            };
            match read_all(&mut reader) {
                Ok(_) => read += 1,
                Err(_) => refused += 1,
            }
        }
        done.store(true, Ordering::Relaxed);
        assert_eq!(read + refused, 3000);
    });
}
