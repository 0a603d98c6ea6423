//! The readers of trajectory records and of groups' records, as lines of JSON.

use envmill_protocol::record::{
    ReadError, read_group_line, read_json_line, write_group_line, write_json_line,
};

/// A line of `trajectories.jsonl`.
pub(crate) fn record(bytes: &[u8]) {
    reads_as_the_same(bytes, read_json_line, write_json_line);
}

/// A line of `groups.jsonl`.
pub(crate) fn group(bytes: &[u8]) {
    reads_as_the_same(bytes, read_group_line, write_group_line);
}

/// What was read is written so that it reads as the same.
fn reads_as_the_same<T>(
    bytes: &[u8],
    read: impl Fn(&[u8]) -> Result<T, ReadError>,
    write: impl Fn(&mut Vec<u8>, &T),
) {
    let Ok(value) = read(bytes) else { return };
    let mut written = Vec::new();
    write(&mut written, &value);
    let again = read(&written).expect("what was read can be written");
    let mut twice = Vec::new();
    write(&mut twice, &again);
    assert!(written == twice, "{}\n{}", written.escape_ascii(), twice.escape_ascii());
}
