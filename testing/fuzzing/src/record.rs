//! The readers of trajectory records and of groups' records, as lines of JSON.

use envmill_protocol::record::{
    read_group_line, read_json_line, write_group_line, write_json_line,
};

/// A line of `trajectories.jsonl`. What was read is written so that it reads as the same.
pub(crate) fn record(bytes: &[u8]) {
    let Ok(record) = read_json_line(bytes) else { return };
    let mut written = Vec::new();
    write_json_line(&mut written, &record);
    let again = read_json_line(&written).expect("what was read can be written");
    let mut twice = Vec::new();
    write_json_line(&mut twice, &again);
    assert!(written == twice, "{}\n{}", written.escape_ascii(), twice.escape_ascii());
}

/// A line of `groups.jsonl`, likewise.
pub(crate) fn group(bytes: &[u8]) {
    let Ok(group) = read_group_line(bytes) else { return };
    let mut written = Vec::new();
    write_group_line(&mut written, &group);
    let again = read_group_line(&written).expect("what was read can be written");
    let mut twice = Vec::new();
    write_group_line(&mut twice, &again);
    assert!(written == twice, "{}\n{}", written.escape_ascii(), twice.escape_ascii());
}
