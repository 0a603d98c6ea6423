//! Records as lines of JSON.

use std::{
    fs::File,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
};

use envmill_protocol::{Trajectory, record::write_json_line};

use super::queue::Queue;
use crate::sink::{Sink, SinkError};

/// Lines are gathered up to this many bytes for one write. A longer line is written alone.
const WRITE_BYTES: usize = 256 << 10;

/// Writes each record as one line of JSON (see `docs/record.md`), on a thread of its own.
///
/// Up to 64 MiB or 65,536 records wait for the disk; then [`submit`](Sink::submit) blocks. What was
/// submitted is with the operating system within a quarter of a second, and on the disk after
/// [`finish`](Sink::finish). A file always ends with a whole line: what a failing write left of one
/// is cut off again.
#[derive(Debug)]
pub struct JsonLines {
    shared: Arc<Shared>,
    path: PathBuf,
    writer: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    queue: Queue,
    written: AtomicU64,
    failure: OnceLock<SinkError>,
}

impl JsonLines {
    /// Writes to `file`, which is empty and known as `path`.
    ///
    /// # Errors
    ///
    /// The system gives no thread.
    pub fn new(file: File, path: &Path) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let path = path.to_owned();
        let writer = {
            let (shared, path) = (Arc::clone(&shared), path.clone());
            std::thread::Builder::new()
                .name("json-lines".into())
                .spawn(move || write_all(&shared, Lines { file, length: 0 }, &path))?
        };
        Ok(Self { shared, path, writer: Some(writer) })
    }
}

impl Sink for JsonLines {
    fn submit(&mut self, records: &mut Vec<Trajectory>) {
        if !records.is_empty() {
            self.shared.queue.push(records);
        }
    }

    fn written(&self) -> u64 {
        self.shared.written.load(Ordering::Relaxed)
    }

    fn failure(&self) -> Option<SinkError> {
        self.shared.failure.get().cloned()
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        self.shared.queue.end();
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            let source = io::Error::other("the writing thread panicked");
            let _ = self.shared.failure.set(SinkError::new(self.path.clone(), source));
        }
        self.failure().map_or(Ok(()), Err)
    }
}

impl Drop for JsonLines {
    fn drop(&mut self) {
        // The failure, if any, was there to be asked for.
        let _ = self.finish();
    }
}

fn write_all(shared: &Shared, mut lines: Lines, path: &Path) {
    let result = write_batches(shared, &mut lines);
    if let Err(source) = result.and_then(|()| lines.file.sync_data()) {
        let _ = shared.failure.set(SinkError::new(path.to_owned(), source));
        shared.queue.abandon();
    }
}

fn write_batches(shared: &Shared, lines: &mut Lines) -> io::Result<()> {
    let mut records = Vec::new();
    let mut text = Vec::new();
    while shared.queue.pop(&mut records) {
        let mut count = 0;
        for record in records.drain(..) {
            write_json_line(&mut text, &record);
            count += 1;
            if text.len() >= WRITE_BYTES {
                lines.write(&mut text, &mut count, &shared.written)?;
            }
        }
        lines.write(&mut text, &mut count, &shared.written)?;
        // One huge record must not be remembered in capacity.
        text.shrink_to(4 * WRITE_BYTES);
    }
    Ok(())
}

/// A file of whole lines.
struct Lines {
    file: File,
    length: u64,
}

impl Lines {
    /// Writes `text`, `count` whole lines, and clears both. On an error what was written of a line is
    /// cut off again and the whole ones before it are counted.
    fn write(
        &mut self,
        text: &mut Vec<u8>,
        count: &mut u64,
        written: &AtomicU64,
    ) -> io::Result<()> {
        let mut done = 0;
        while done < text.len() {
            match self.file.write(&text[done..]) {
                Ok(0) => return self.cut(&text[..done], io::ErrorKind::WriteZero.into(), written),
                Ok(n) => done += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return self.cut(&text[..done], error, written),
            }
        }
        self.length += text.len() as u64;
        written.fetch_add(*count, Ordering::Relaxed);
        text.clear();
        *count = 0;
        Ok(())
    }

    fn cut(&mut self, done: &[u8], error: io::Error, written: &AtomicU64) -> io::Result<()> {
        let whole = memchr::memrchr(b'\n', done).map_or(0, |end| end + 1);
        let lines = memchr::memchr_iter(b'\n', &done[..whole]).count();
        self.length += whole as u64;
        written.fetch_add(lines as u64, Ordering::Relaxed);
        // The first error is the one to report.
        let _ = self.file.set_len(self.length);
        Err(error)
    }
}
