//! A recording has a largest size, and never fails the run that it records.

use std::io::{self, Write};

use envmill_recorder::{BYTES_MAX_DEFAULT, Ending, ReadError, Replay, ReplayError};

use crate::run::{Memory, play, play_into};

#[test]
fn a_full_file_holds_the_beginning_and_says_so() {
    let whole = play(1, 100, BYTES_MAX_DEFAULT);
    let size = whole.file.len() as u64;
    for bytes_max in [500, 1_000, 10_000, size / 2, size - 1, size] {
        let run = play(1, 100, bytes_max);
        assert!(run.file.len() as u64 <= bytes_max, "{} of {bytes_max}", run.file.len());
        assert_eq!(run.recorded.bytes, run.file.len() as u64);
        assert_eq!(run.recorded.is_full, bytes_max < size);
        assert_eq!(run.records, whole.records);
        let mut replay = Replay::new(&run.file[..]).unwrap();
        while replay.step().unwrap().is_some() {}
        let expected = if bytes_max < size { Ending::Full } else { Ending::Whole };
        assert_eq!(replay.ending(), expected);
        assert_eq!(replay.tally().calls, run.recorded.calls);
    }
}

/// Takes so many bytes, then refuses.
struct Short(Memory, usize);

impl Write for Short {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(self.1);
        if taken == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.1 -= taken;
        self.0.write(&bytes[..taken])
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_full_disk_ends_the_recording_and_not_the_run() {
    let memory = Memory::default();
    let short = Short(memory.clone(), 100_000);
    let (recorded, records) = play_into(Box::new(short), 1, 2_000, BYTES_MAX_DEFAULT);
    assert_eq!(recorded.failure.unwrap().kind(), io::ErrorKind::StorageFull);
    assert_eq!(records.len(), 2_000);
    let file = memory.0.lock().unwrap().clone();
    let mut replay = Replay::new(&file[..]).unwrap();
    let last = loop {
        match replay.step() {
            Ok(Some(_)) => {}
            other => break other,
        }
    };
    assert!(matches!(last, Ok(None) | Err(ReplayError::Read(ReadError::Cut { .. }))), "{last:?}");
    assert!(replay.tally().calls > 100);
}
