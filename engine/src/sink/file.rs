//! A sink that writes a file, on a thread of its own.

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

use envmill_protocol::Trajectory;

use super::queue::Queue;
use crate::sink::{Sink, SinkError};

/// How records become the bytes of a file. What is handed over at once is whole: a reader gets all
/// of it or, where the file was cut, none.
pub(super) trait Encoder: Send + 'static {
    /// Takes some of `records` and appends their bytes to `bytes`; gives back how many records those
    /// are, 0 if there is nothing to write for now. Called several times a second; `last` says that
    /// no more come, and that nothing is to be held back.
    fn encode(
        &mut self,
        records: &mut Vec<Trajectory>,
        bytes: &mut Vec<u8>,
        last: bool,
    ) -> io::Result<u64>;

    /// How many of the first bytes of what was handed over make whole records by themselves, and how
    /// many records: what is kept of a write that failed in its middle. Nothing, unless records can
    /// be told apart.
    fn whole(&self, _written: &[u8]) -> (usize, u64) {
        (0, 0)
    }

    /// The bytes that end the file.
    fn end(&mut self) -> io::Result<Vec<u8>> {
        Ok(Vec::new())
    }
}

/// Writes records into one file as they come.
///
/// Up to 16 MiB or 8,192 records wait for the disk; then [`submit`](Sink::submit) blocks. JSON lines
/// are with the operating system within a quarter of a second, batches of Arrow within one and a
/// quarter, and all of it on the disk after [`finish`](Sink::finish). A file always ends with a
/// whole record: what a failing write left of one is cut off again.
#[derive(Debug)]
pub struct FileSink {
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

impl FileSink {
    /// Goes on writing at the end of `file`, which has `length` bytes and is known as `path`.
    pub(super) fn start(
        file: File,
        length: u64,
        path: &Path,
        mut encoder: impl Encoder,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let path = path.to_owned();
        let writer = {
            let (shared, path) = (Arc::clone(&shared), path.clone());
            std::thread::Builder::new().name("records".into()).spawn(move || {
                let mut target = Target { file, length };
                let result = write_all(&shared, &mut encoder, &mut target);
                if let Err(source) = result.and_then(|()| target.file.sync_data()) {
                    let _ = shared.failure.set(SinkError::new(path, source));
                    shared.queue.abandon();
                }
            })?
        };
        Ok(Self { shared, path, writer: Some(writer) })
    }
}

impl Sink for FileSink {
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

impl Drop for FileSink {
    fn drop(&mut self) {
        // The failure, if any, was there to be asked for.
        let _ = self.finish();
    }
}

fn write_all(shared: &Shared, encoder: &mut impl Encoder, target: &mut Target) -> io::Result<()> {
    let (mut popped, mut waiting, mut bytes) = (Vec::new(), Vec::new(), Vec::new());
    loop {
        let more = shared.queue.pop(&mut popped);
        waiting.append(&mut popped);
        loop {
            let count = encoder.encode(&mut waiting, &mut bytes, !more)?;
            if count == 0 {
                break;
            }
            if let Err(cut) = target.write(&bytes, |written| encoder.whole(written)) {
                shared.written.fetch_add(cut.records, Ordering::Relaxed);
                return Err(cut.error);
            }
            bytes.clear();
            shared.written.fetch_add(count, Ordering::Relaxed);
        }
        if !more {
            return target.write(&encoder.end()?, |_| (0, 0)).map_err(|cut| cut.error);
        }
        // One huge record must not be remembered in capacity.
        bytes.shrink_to(1 << 20);
        waiting.shrink_to(1024);
    }
}

/// A file that is whole up to `length`.
struct Target {
    file: File,
    length: u64,
}

/// A write that failed, and how many of its records are in the file all the same.
struct Cut {
    error: io::Error,
    records: u64,
}

impl Target {
    /// Writes all of `bytes`. Where that fails, what `whole` says of the written part stays and the
    /// rest is cut off again.
    fn write(
        &mut self,
        bytes: &[u8],
        whole: impl FnOnce(&[u8]) -> (usize, u64),
    ) -> Result<(), Cut> {
        let mut written = 0;
        let error = loop {
            if written == bytes.len() {
                self.length += written as u64;
                return Ok(());
            }
            match self.file.write(&bytes[written..]) {
                Ok(0) => break io::ErrorKind::WriteZero.into(),
                Ok(n) => written += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break error,
            }
        };
        let (kept, records) = whole(&bytes[..written]);
        self.length += kept as u64;
        // The first error is the one to report.
        let _ = self.file.set_len(self.length);
        Err(Cut { error, records })
    }
}
