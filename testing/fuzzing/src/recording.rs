//! The reader of flight recordings.

use envmill_recorder::{Reader, VERSION};

/// With a first byte that is even: a file. Else: the body of one frame, which gets its header, length
/// and checksum here, since no fuzzer guesses those.
pub(crate) fn recording(bytes: &[u8]) {
    let Some((first, rest)) = bytes.split_first() else { return };
    if first % 2 == 0 {
        return read(rest);
    }
    let mut file = b"ENVMREC\n".to_vec();
    file.extend_from_slice(&VERSION.to_le_bytes());
    file.extend_from_slice(&u32::try_from(rest.len()).unwrap_or_default().to_le_bytes());
    file.extend_from_slice(&crc32fast::hash(rest).to_le_bytes());
    file.extend_from_slice(rest);
    read(&file);
}

fn read(file: &[u8]) {
    let Ok(mut reader) = Reader::new(file) else { return };
    let mut entries = 0;
    while let Ok(Some(entry)) = reader.next_entry() {
        let _ = format!("{entry:?}");
        entries += 1;
    }
    assert!(entries <= file.len() / 8, "{entries} entries in {} bytes", file.len());
}
