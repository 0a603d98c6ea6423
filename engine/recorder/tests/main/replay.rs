//! A recording proves itself.

use envmill_recorder::{BYTES_MAX_DEFAULT, Ending, Entry, Reader, Replay, ReplayError};

use crate::run::{Run, play};

fn replay(file: &[u8]) -> Result<Replay<&[u8]>, ReplayError> {
    let mut replay = Replay::new(file)?;
    while replay.step()?.is_some() {}
    Ok(replay)
}

#[test]
fn every_decision_is_the_recorded_one() {
    for seed in 0..20 {
        let Run { file, recorded, records } = play(seed, 200, BYTES_MAX_DEFAULT);
        assert_eq!(recorded.bytes, file.len() as u64);
        assert!(!recorded.is_full && recorded.failure.is_none());
        assert_eq!(records.len(), 200);
        let replay = replay(&file).unwrap();
        let tally = replay.tally();
        assert_eq!(tally.calls, recorded.calls);
        assert_eq!(tally.records.values().sum::<u64>(), 200);
        assert_eq!(replay.ending(), Ending::Whole);
        assert_eq!(replay.program(), "test");
        for kind in ["settle", "event", "decision", "server_ready", "fingerprint", "cancel"] {
            assert!(tally.by_kind.contains_key(kind), "{kind}");
        }
    }
}

/// A recorder changes nothing: a run that is hardly recorded at all is played the same.
#[test]
fn recording_changes_no_decision() {
    let (whole, hardly) = (play(3, 100, BYTES_MAX_DEFAULT), play(3, 100, 2_000));
    assert!(hardly.recorded.is_full);
    assert_eq!(whole.records, hardly.records);
}

/// The frames of a file, each with its head.
fn frames(file: &[u8]) -> (Vec<u8>, Vec<Vec<u8>>) {
    let (header, mut rest) = file.split_at(12);
    let mut frames = Vec::new();
    while let Some(length) = rest.first_chunk() {
        let (frame, after) = rest.split_at(8 + u32::from_le_bytes(*length) as usize);
        frames.push(frame.to_vec());
        rest = after;
    }
    (header.to_vec(), frames)
}

fn sealed(mut frame: Vec<u8>) -> Vec<u8> {
    let checksum = crc32fast::hash(&frame[8..]).to_le_bytes();
    frame[4..8].copy_from_slice(&checksum);
    frame
}

#[test]
fn a_changed_input_is_found_at_its_call() {
    let file = play(5, 50, BYTES_MAX_DEFAULT).file;
    let (header, frames) = frames(&file);
    // The number of the call that each frame records: 5 frames come before the first.
    let mut calls = 0;
    let mut reader = Reader::new(&file[..]).unwrap();
    let mut checked = 0;
    for number in 0.. {
        let Some(entry) = reader.next_entry().unwrap() else { break };
        calls += u64::from(matches!(entry, Entry::Input { .. } | Entry::Settle { .. }));
        let is_step = format!("{entry:?}").contains("Stepped(Observed");
        if !(is_step && number % 7 == 0) {
            continue;
        }
        // Another observation: the record, and the turn that shows it, are others.
        let mut changed = frames[number].clone();
        let at = changed.windows(4).position(|four| four == b"seen").unwrap();
        changed[at] = b'S';
        let mut other = header.clone();
        for (index, frame) in frames.iter().enumerate() {
            other.extend(if index == number { sealed(changed.clone()) } else { frame.clone() });
        }
        let Err(ReplayError::Diverged(divergence)) = replay(&other) else {
            panic!("frame {number}: not found")
        };
        // At once, or, where the step ends nothing and shows nothing yet, at a later one.
        assert!(divergence.call >= calls, "{divergence} is before {calls}");
        assert!(divergence.call <= calls + 40, "{divergence} is long after {calls}");
        checked += 1;
    }
    assert!(checked > 20, "{checked}");
}

#[test]
fn a_missing_call_is_found() {
    let file = play(6, 50, BYTES_MAX_DEFAULT).file;
    let (header, frames) = frames(&file);
    let mut found = 0;
    for missing in (6..frames.len()).step_by(29) {
        let mut other = header.clone();
        for (index, frame) in frames.iter().enumerate() {
            if index != missing {
                other.extend(frame);
            }
        }
        found += u32::from(matches!(replay(&other), Err(ReplayError::Diverged(_))));
    }
    // A settling with nothing to do is not missed.
    assert!(found > 20, "{found}");
}
