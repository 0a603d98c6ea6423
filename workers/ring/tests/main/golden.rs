//! The bytes of segments, which other programs write and read: they do not change by accident.
//!
//! With `ENVMILL_UPDATE_GOLDEN` set the files are written anew.

use std::{env, fs, os::fd::AsFd as _, path::PathBuf};

use envmill_ring::{
    ColumnsWriter, Layout, Limits, LogLayout, LogReader, LogStart, LogWriter, RaggedRows,
};

use crate::{
    image,
    sides::{ID, KIND, POSE, TEXT, publish, steps},
};

const LONG: &[u8] = b"This text is longer than the arena of sixty-four bytes that it should go to.";

fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

/// Checks that these are the committed bytes, and says where they differ first.
fn assert_golden(name: &str, bytes: &[u8]) {
    let path = golden(name);
    if env::var_os("ENVMILL_UPDATE_GOLDEN").is_some() {
        fs::write(&path, bytes).unwrap();
    }
    let expected = fs::read(&path).unwrap();
    assert_eq!(bytes.len(), expected.len(), "{name}");
    let first = bytes.iter().zip(&expected).position(|(ours, theirs)| ours != theirs);
    assert_eq!(first, None, "{name}: the first byte that differs");
}

#[test]
fn columns_have_the_golden_bytes() {
    let mut writer = ColumnsWriter::create(steps()).unwrap();
    let _ = publish(&mut writer, 100, &[b"one", b"", b"three"]);
    let published = publish(&mut writer, 200, &[b"four", LONG]);
    assert_golden("columns.bin", &image::read(&writer));
    assert_golden("overflow.bin", &image::read(&published.overflow[0].memory));
}

#[test]
fn golden_columns_are_read() {
    let segment = image::segment(&fs::read(golden("columns.bin")).unwrap());
    let overflow = fs::read(golden("overflow.bin")).unwrap();
    let mut writer = ColumnsWriter::create(Layout::new(1, 1, []).unwrap()).unwrap();
    let mut reader = writer.connect(segment.as_fd(), &Limits::default()).unwrap();
    assert_eq!(*reader.layout(), steps());
    reader.attach_overflow(1, TEXT, image::memfd(&overflow, image::OVERFLOW_SEALS)).unwrap();
    let expected: [(u64, &[&[u8]]); 2] = [(100, &[b"one", b"", b"three"]), (200, &[b"four", LONG])];
    for (first, texts) in expected {
        let batch = reader.next_batch().unwrap().unwrap();
        let (mut ids, mut kinds, mut poses) = (vec![], vec![], vec![]);
        let mut rows = RaggedRows::new();
        batch.fixed::<u64>(ID, &mut ids).unwrap();
        batch.fixed::<u8>(KIND, &mut kinds).unwrap();
        batch.fixed::<f32>(POSE, &mut poses).unwrap();
        batch.ragged(TEXT, &mut rows).unwrap();
        let rows_count = texts.len() as u64;
        assert_eq!(ids, (first..first + rows_count).collect::<Vec<_>>());
        assert_eq!(kinds, (0..rows_count as u8).collect::<Vec<_>>());
        assert_eq!(poses[3..6], [first as f32, 1.0, 0.5]);
        assert_eq!(rows.iter().collect::<Vec<_>>(), texts);
        batch.release();
    }
    assert!(reader.next_batch().unwrap().is_none());
}

/// Two records of 1,500 bytes, given back in the wrong order, and a third that does not fit before
/// the ring's end.
#[test]
fn a_log_has_the_golden_bytes() {
    let limits = Limits::default();
    let mut writer = LogWriter::create(LogLayout::new(4096, 4).unwrap()).unwrap();
    let mut reader = LogReader::open(writer.as_fd(), writer.start(), &limits).unwrap();
    writer.connect(reader.as_fd(), &limits).unwrap();
    for byte in [b'a', b'b'] {
        writer.append(&[byte; 1500], 0).unwrap().unwrap();
    }
    assert_eq!(writer.append(&[b'c'; 1500], 0xC0DE).unwrap(), None);
    let first = reader.next_record().unwrap().unwrap();
    reader.next_record().unwrap().unwrap().release();
    first.release();
    assert_eq!(writer.append(&[b'c'; 1500], 0xC0DE).unwrap(), Some(2));
    assert_golden("log.bin", &image::read(&writer));
    assert_golden("releases.bin", &image::read(&reader));
}

#[test]
fn a_golden_log_is_read() {
    let segment = image::segment(&fs::read(golden("log.bin")).unwrap());
    let start = LogStart { position: 3072, sequence: 2 };
    let mut reader = LogReader::open(segment.as_fd(), start, &Limits::default()).unwrap();
    let record = reader.next_record().unwrap().unwrap();
    assert_eq!((record.sequence(), record.flags(), record.len()), (2, 0xC0DE, 1500));
    assert_eq!(record.copy().unwrap(), vec![b'c'; 1500]);
    assert!(reader.next_record().unwrap().is_none());
}
