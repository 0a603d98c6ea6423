//! Whatever the bytes are, reading ends with entries or an error.

use std::sync::OnceLock;

use envmill_recorder::{BYTES_MAX_DEFAULT, ReadError, Reader, VERSION};
use proptest::prelude::*;

use crate::run::play;

fn file() -> &'static [u8] {
    static FILE: OnceLock<Vec<u8>> = OnceLock::new();
    FILE.get_or_init(|| play(2, 10, BYTES_MAX_DEFAULT).file)
}

/// How many entries come, and how it ends.
fn read(file: &[u8]) -> (usize, Result<(), ReadError>) {
    let mut reader = match Reader::new(file) {
        Ok(reader) => reader,
        Err(error) => return (0, Err(error)),
    };
    let mut entries = 0;
    loop {
        match reader.next_entry() {
            Ok(Some(_)) => entries += 1,
            Ok(None) => return (entries, Ok(())),
            Err(error) => {
                assert!(matches!(reader.next_entry(), Ok(None)), "an error comes once");
                return (entries, Err(error));
            }
        }
    }
}

#[test]
fn a_file_that_is_cut_anywhere_gives_its_whole_frames() {
    let whole = read(file()).0;
    let mut before = 0;
    for cut in 0..file().len().min(6_000) {
        let (entries, end) = read(&file()[..cut]);
        assert!(entries >= before && entries <= whole);
        before = entries;
        match end {
            Ok(()) => {}
            Err(ReadError::NotARecording) => assert!(cut < 12),
            Err(ReadError::Cut { at }) => assert!(at < cut as u64),
            Err(error) => panic!("{cut}: {error}"),
        }
    }
}

#[test]
fn another_version_is_named() {
    let mut other = file().to_vec();
    other[8] = VERSION.to_le_bytes()[0] + 1;
    assert!(matches!(read(&other).1, Err(ReadError::Version { found }) if found == VERSION + 1));
}

#[test]
fn a_frame_that_announces_too_much_is_refused() {
    let mut other = file()[..12].to_vec();
    other.extend_from_slice(&u32::MAX.to_le_bytes());
    other.extend_from_slice(&[0; 100]);
    assert!(matches!(read(&other).1, Err(ReadError::Damaged { at: 12, .. })));
    other[12..16].copy_from_slice(&(200u32 << 20).to_le_bytes());
    assert!(matches!(read(&other).1, Err(ReadError::Cut { at: 12 })));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_flipped_bit_is_found(position: prop::sample::Index, bit in 0u8..8) {
        let mut damaged = file().to_vec();
        let at = position.index(damaged.len());
        damaged[at] ^= 1 << bit;
        prop_assert!(read(&damaged).1.is_err());
    }

    /// Also behind a checksum that is right: whoever sends a file can make one.
    #[test]
    fn no_frame_makes_it_panic(
        kind in 0u8..8,
        body in prop::collection::vec(prop_oneof![Just(0u8), Just(1), Just(255), any::<u8>()], 0..300),
    ) {
        let mut frame = vec![kind];
        frame.extend_from_slice(&body);
        let mut other = file()[..12].to_vec();
        other.extend_from_slice(&(frame.len() as u32).to_le_bytes());
        other.extend_from_slice(&crc32fast::hash(&frame).to_le_bytes());
        other.extend_from_slice(&frame);
        let (entries, end) = read(&other);
        let is_refused = matches!(end, Err(ReadError::Damaged { at: 12, .. }));
        prop_assert!(entries == 1 || is_refused);
    }
}
