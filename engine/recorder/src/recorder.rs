//! Recording.

use std::{
    fmt,
    io::{self, Write},
    mem,
    time::Duration,
};

use envmill_core::{Core, Input, JobOptions, Outputs, Time};

use crate::{
    digest::Digest,
    entry::{self, Written},
    file::{self, FRAME_HEAD_BYTES},
};

/// The size of a file that nobody has chosen another for: 1 GiB.
pub const BYTES_MAX_DEFAULT: u64 = 1 << 30;

/// How much is gathered before it is written.
const BUFFER_BYTES: usize = 64 * 1024;

/// How long something may lie in the buffer while the run goes on, by the core's clock: what a killed
/// run loses at most.
const FLUSH_EVERY: Duration = Duration::from_secs(1);

/// An entry without content: kept free for the mark that the file is full, and for the end.
const MARK_BYTES: u64 = (FRAME_HEAD_BYTES + 1 + size_of::<Digest>()) as u64;

/// What came of a recording.
#[derive(Debug)]
pub struct Recorded {
    /// Inputs and settlings in the file.
    pub calls: u64,
    /// The size of the file.
    pub bytes: u64,
    /// Whether it reached its maximum: then it holds the beginning of the run, up to an entry that says
    /// so.
    pub is_full: bool,
    /// Why it ends early, if a write failed.
    pub failure: Option<io::Error>,
}

/// Stands between a driver and its core, and writes down what the core is told.
///
/// An input is written before the core takes it, so that one that makes the core panic is in the file.
/// Nothing here fails a run: when the file is full or cannot be written, recording stops and the run
/// goes on, and [`Recorder::finish`] says so.
///
/// The memory it takes: a buffer of 64 KiB, one frame, and the outputs of one call as bytes.
pub struct Recorder {
    file: Box<dyn Write + Send>,
    bytes_max: u64,
    buffer: Vec<u8>,
    flushed_at: Time,
    frame: Vec<u8>,
    scratch: Vec<u8>,
    /// The outputs of one call.
    outputs: Outputs,
    digest: Digest,
    stopped: bool,
    recorded: Recorded,
}

impl Recorder {
    /// A recorder of `core`, which has its servers and its first jobs (submitted at [`Time::ZERO`]), and
    /// has not been called yet. It writes at most `bytes_max` bytes to `file`, in large pieces.
    ///
    /// # Errors
    ///
    /// The first bytes cannot be written.
    pub fn start(
        file: Box<dyn Write + Send>,
        bytes_max: u64,
        program: &str,
        core: &Core,
    ) -> io::Result<Self> {
        let mut recorder = Self {
            file,
            bytes_max,
            buffer: file::header(),
            flushed_at: Time::ZERO,
            frame: Vec::new(),
            scratch: Vec::new(),
            outputs: Outputs::default(),
            digest: Digest::default(),
            stopped: false,
            recorded: Recorded { calls: 0, bytes: 0, is_full: false, failure: None },
        };
        recorder.recorded.bytes = recorder.buffer.len() as u64;
        recorder.write(Written::Start { program, options: core.options() });
        for (server, _) in core.servers() {
            recorder.write(Written::Server(server));
        }
        for job in core.jobs() {
            recorder.write(Written::Job { now: Time::ZERO, options: job });
        }
        recorder.flush();
        match recorder.recorded.failure.take() {
            Some(failure) => Err(failure),
            None => Ok(recorder),
        }
    }

    /// Notes a job that the core has just taken on.
    pub fn job(&mut self, now: Time, options: &JobOptions) {
        self.write(Written::Job { now, options });
    }

    /// Calls [`Core::handle`] and records it.
    pub fn handle(&mut self, core: &mut Core, now: Time, input: Input, outputs: &mut Outputs) {
        if self.stopped {
            return core.handle(now, input, outputs);
        }
        self.write(Written::Input { now, input: &input });
        core.handle(now, input, &mut self.outputs);
        self.pass_on(outputs);
    }

    /// Calls [`Core::settle`] and records it.
    pub fn settle(&mut self, core: &mut Core, now: Time, outputs: &mut Outputs) {
        if self.stopped {
            return core.settle(now, outputs);
        }
        self.write(Written::Settle { now });
        core.settle(now, &mut self.outputs);
        self.pass_on(outputs);
        if self.buffer.len() >= BUFFER_BYTES || now.since(self.flushed_at) >= FLUSH_EVERY {
            self.flushed_at = now;
            self.flush();
        }
    }

    /// Ends the recording.
    #[must_use]
    pub fn finish(mut self) -> Recorded {
        if !self.stopped {
            self.write_within(Written::End, 0);
        }
        self.flush();
        mem::replace(
            &mut self.recorded,
            Recorded { calls: 0, bytes: 0, is_full: false, failure: None },
        )
    }

    /// Hashes the outputs of the call, and gives them to the driver behind those of earlier calls.
    fn pass_on(&mut self, outputs: &mut Outputs) {
        self.recorded.calls += u64::from(!self.stopped);
        self.digest = self.digest.with(&self.outputs, &mut self.scratch);
        let Outputs {
            commands,
            turns,
            cancelled_turns,
            handed,
            records,
            groups,
            to_score,
            latencies,
            notes,
        } = &mut self.outputs;
        outputs.commands.append(commands);
        outputs.turns.append(turns);
        outputs.cancelled_turns.append(cancelled_turns);
        outputs.handed.append(handed);
        outputs.records.append(records);
        outputs.groups.append(groups);
        outputs.to_score.append(to_score);
        outputs.latencies.append(latencies);
        outputs.notes.append(notes);
    }

    fn write(&mut self, entry: Written<'_>) {
        self.write_within(entry, MARK_BYTES);
    }

    /// Writes an entry if `reserve` bytes stay free after it; else the mark that the file is full.
    fn write_within(&mut self, entry: Written<'_>, reserve: u64) {
        if self.stopped {
            return;
        }
        self.frame.clear();
        self.frame.resize(FRAME_HEAD_BYTES, 0);
        entry::encode(entry, self.digest, &mut self.frame);
        let bytes = self.frame.len() as u64;
        let fits = self.recorded.bytes.saturating_add(bytes + reserve) <= self.bytes_max;
        if !(fits && file::seal(&mut self.frame)) {
            self.recorded.is_full = true;
            if reserve > 0 {
                self.write_within(Written::Full, 0);
            }
            self.stopped = true;
            self.flush();
            return;
        }
        self.recorded.bytes += bytes;
        self.buffer.extend_from_slice(&self.frame);
        if self.frame.capacity() > 16 * BUFFER_BYTES {
            self.frame = Vec::new();
        }
        if self.buffer.len() >= 2 * BUFFER_BYTES {
            self.flush();
        }
    }

    fn flush(&mut self) {
        if self.recorded.failure.is_none() && !self.buffer.is_empty() {
            let written = self.file.write_all(&self.buffer).and_then(|()| self.file.flush());
            if let Err(error) = written {
                self.recorded.failure = Some(error);
                self.stopped = true;
            }
        }
        self.buffer.clear();
        self.buffer.shrink_to(4 * BUFFER_BYTES);
    }
}

/// A run that panics leaves what led to it.
impl Drop for Recorder {
    fn drop(&mut self) {
        self.flush();
    }
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder").field("recorded", &self.recorded).finish_non_exhaustive()
    }
}
