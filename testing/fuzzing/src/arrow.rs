//! The reader of Arrow streams.

use std::sync::Once;

use envmill_formats::{StreamReader, encode};

/// A file `trajectories.arrows`, up to the first thing in it that is no whole batch of records. What
/// was read can be written again.
pub(crate) fn arrow(bytes: &[u8]) {
    // The reader catches panics of the library that it stands on; a fuzzer's hook would end at them.
    static QUIET: Once = Once::new();
    QUIET.call_once(|| std::panic::set_hook(Box::new(|_| {})));
    let mut reader = StreamReader::new(bytes);
    let mut batches = 0;
    for records in reader.by_ref().map_while(Result::ok) {
        encode(&records).expect("what was read can be written");
        batches += 1;
    }
    let whole = usize::try_from(reader.whole_bytes()).expect("a length in memory");
    assert!(whole <= bytes.len(), "{whole} of {} bytes", bytes.len());
    let again = StreamReader::new(&bytes[..whole]).map_while(Result::ok).count();
    assert_eq!(again, batches, "what is whole does not read without what follows it");
}
