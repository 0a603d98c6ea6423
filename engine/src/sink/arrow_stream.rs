//! Records as batches of an Arrow IPC stream.

use std::{
    io,
    time::{Duration, Instant},
};

use envmill_formats::{FormatError, StreamWriter};
use envmill_protocol::Trajectory;

use super::{file::Encoder, queue::weight};

/// A batch has at most so many records.
const ROWS_MAX: usize = 1024;
/// And is written once its records hold about so many bytes. A larger record is a batch of its own.
const BYTES_MAX: usize = 4 << 20;
/// A record waits at most this long for others: what a kill loses. A batch costs about 10 KB beside
/// its records, so that much smaller ones would be mostly frame.
const WAIT_MAX: Duration = Duration::from_secs(1);

/// Writes records in batches (see `docs/record.md`).
pub(super) struct ArrowStream {
    writer: Option<StreamWriter>,
    /// Since when records wait.
    waiting_since: Option<Instant>,
}

impl ArrowStream {
    /// For a file that begins, or one that has its schema and goes on.
    pub(super) fn new(continued: bool) -> io::Result<Self> {
        let writer = StreamWriter::new(continued).map_err(FormatError::into_io)?;
        Ok(Self { writer: Some(writer), waiting_since: None })
    }
}

impl Encoder for ArrowStream {
    fn encode(
        &mut self,
        records: &mut Vec<Trajectory>,
        bytes: &mut Vec<u8>,
        last: bool,
    ) -> io::Result<u64> {
        let (mut count, mut weighs) = (0, 0);
        while count < records.len().min(ROWS_MAX) && weighs < BYTES_MAX {
            weighs += weight(&records[count]);
            count += 1;
        }
        let is_full = count == ROWS_MAX || weighs >= BYTES_MAX;
        let now = Instant::now();
        let since = *self.waiting_since.get_or_insert(now);
        if count == 0 {
            self.waiting_since = None;
        }
        if count == 0 || !(is_full || last || now.duration_since(since) >= WAIT_MAX) {
            return Ok(0);
        }
        self.waiting_since = None;
        let Some(writer) = &mut self.writer else { return Ok(0) };
        let batch: Vec<Trajectory> = records.drain(..count).collect();
        bytes.append(&mut writer.batch(&batch).map_err(FormatError::into_io)?);
        Ok(count as u64)
    }

    fn end(&mut self) -> io::Result<Vec<u8>> {
        match self.writer.take() {
            Some(writer) => writer.end().map_err(FormatError::into_io),
            None => Ok(Vec::new()),
        }
    }
}
