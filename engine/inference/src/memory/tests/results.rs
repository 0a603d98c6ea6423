//! Rows of results of any bytes.

use std::os::fd::AsFd as _;

use envmill_protocol::PolicyVersion;
use envmill_ring::{ColumnsWriter, Layout, Limits};
use proptest::{collection::vec, prelude::*};

use crate::VllmMemoryOptions;

use super::{
    super::{layout, results::Results},
    mock::{Says, publish},
};

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..40)
}

fn says() -> impl Strategy<Value = Says> {
    let heads = (any::<u64>(), 0..7_u8, 0..7_u8, any::<u32>(), any::<u32>(), any::<u64>());
    (heads, proptest::array::uniform6(bytes())).prop_map(
        |((number, kind, why, stop_token, cached, queue_us), ragged)| {
            let [tokens, logprobs, versions, text, top_tokens, top_logprobs] = ragged;
            Says {
                number,
                kind,
                why,
                stop_token,
                cached,
                queue_us,
                tokens,
                logprobs,
                versions,
                text,
                top_tokens,
                top_logprobs,
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

    /// Whatever a plug-in writes is read as what it is, or is an error.
    #[test]
    fn rows_of_any_bytes_are_read_or_refused(rows in vec(says(), 0..8)) {
        let options = VllmMemoryOptions { rows: 8, text_bytes: 8000, ..VllmMemoryOptions::new("") };
        let mut theirs = ColumnsWriter::create(layout::results(&options).unwrap()).unwrap();
        let mut ours = ColumnsWriter::create(Layout::new(1, 1, []).unwrap()).unwrap();
        let mut reader = ours.connect(theirs.as_fd(), &Limits::default()).unwrap();
        theirs.connect(ours.as_fd(), &Limits::default()).unwrap();
        publish(&mut theirs, &rows);
        let batch = reader.next_batch().unwrap().unwrap();
        let mut results = Results::default();
        results.read(&batch).unwrap();
        for (row, said) in rows.iter().enumerate() {
            let Ok((number, _)) = results.row(&batch, row, PolicyVersion(1)) else {
                continue;
            };
            prop_assert_eq!(number, said.number);
        }
    }
}
