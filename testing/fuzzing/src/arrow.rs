//! The reader of Arrow streams.

use std::panic::{set_hook, take_hook};

use envmill_formats::{StreamReader, encode};
use envmill_protocol::Trajectory;

/// A file `trajectories.arrows`, up to the first thing in it that is no whole batch of records. What
/// was read can be written again.
pub(crate) fn arrow(bytes: &[u8]) {
    let (batches, whole) = read(bytes);
    for records in &batches {
        encode(records).expect("what was read can be written");
    }
    assert!(whole <= bytes.len(), "{whole} of {} bytes", bytes.len());
    let again = read(&bytes[..whole]).0.len();
    assert_eq!(again, batches.len(), "what is whole does not read without what follows it");
}

/// The whole batches, and how many bytes they take. The reader catches panics of the library that it
/// stands on; the hook of a fuzzer, which would end at them, is put aside meanwhile.
fn read(bytes: &[u8]) -> (Vec<Vec<Trajectory>>, usize) {
    let hook = take_hook();
    set_hook(Box::new(|_| {}));
    let mut reader = StreamReader::new(bytes);
    let batches = reader.by_ref().map_while(Result::ok).collect();
    set_hook(hook);
    (batches, usize::try_from(reader.whole_bytes()).expect("a length in memory"))
}
