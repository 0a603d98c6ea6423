//! Records as lines of JSON.

use std::io;

use envmill_protocol::{Trajectory, record::write_json_line};

use super::file::Encoder;

/// Lines are gathered up to this many bytes for one write. A longer line is written alone.
const WRITE_BYTES: usize = 256 << 10;

/// Writes each record as one line of JSON (see `docs/record.md`).
pub(super) struct JsonLines;

impl Encoder for JsonLines {
    fn encode(
        &mut self,
        records: &mut Vec<Trajectory>,
        bytes: &mut Vec<u8>,
        _last: bool,
    ) -> io::Result<u64> {
        let mut count = 0;
        for record in records.iter() {
            write_json_line(bytes, record);
            count += 1;
            if bytes.len() >= WRITE_BYTES {
                break;
            }
        }
        records.drain(..count);
        Ok(count as u64)
    }

    fn whole(&self, written: &[u8]) -> (usize, u64) {
        let whole = memchr::memrchr(b'\n', written).map_or(0, |end| end + 1);
        (whole, memchr::memchr_iter(b'\n', &written[..whole]).count() as u64)
    }
}
