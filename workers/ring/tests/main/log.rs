//! Records that go one way and are given back in any order.

use std::{
    os::fd::AsFd as _,
    sync::{Mutex, mpsc},
    thread,
};

use envmill_ring::{
    LayoutError, Lease, Limits, LogLayout, LogReader, LogWriter, OpenError, RecordError,
};

pub(crate) fn connected(ring_bytes: u64, window: u32) -> (LogWriter, LogReader) {
    let limits = Limits::default();
    let mut writer = LogWriter::create(LogLayout::new(ring_bytes, window).unwrap()).unwrap();
    let reader = LogReader::open(writer.as_fd(), writer.start(), &limits).unwrap();
    writer.connect(reader.as_fd(), &limits).unwrap();
    (writer, reader)
}

#[test]
fn records_go_round_the_ring_many_times() {
    let (mut writer, mut reader) = connected(4096, 8);
    for (sequence, length) in (0..).zip((0..2032).step_by(7).chain([2032, 0, 2032, 1])) {
        let record = vec![length as u8; length];
        assert_eq!(writer.append(&record, length as u16).unwrap(), Some(sequence));
        let lease = reader.next_record().unwrap().unwrap();
        assert_eq!((lease.sequence(), lease.flags()), (sequence, length as u16));
        assert_eq!((lease.len(), lease.is_empty()), (length, length == 0));
        assert_eq!(lease.copy().unwrap(), record);
        assert!(reader.next_record().unwrap().is_none());
    }
}

#[test]
fn the_ring_is_reused_up_to_the_oldest_record_that_is_out() {
    let (mut writer, mut reader) = connected(4096, 8);
    while writer.append(&[1; 1000], 0).unwrap().is_some() {}
    let mut leases: Vec<_> = (0..4).map(|_| reader.next_record().unwrap().unwrap()).collect();
    let oldest = leases.remove(0);
    drop(leases);
    assert_eq!(writer.append(&[2; 1000], 0).unwrap(), None, "the oldest is in the way");
    assert_eq!(oldest.copy().unwrap(), vec![1; 1000]);
    oldest.release();
    assert_eq!(writer.append(&[2; 1000], 0).unwrap(), Some(4));
    assert_eq!(writer.outstanding(), 1);
}

#[test]
fn the_window_bounds_how_many_records_are_out() {
    let (mut writer, mut reader) = connected(1 << 16, 3);
    for sequence in 0..3 {
        assert_eq!(writer.append(b"small", 0).unwrap(), Some(sequence));
    }
    assert_eq!(writer.append(b"small", 0).unwrap(), None);
    reader.next_record().unwrap().unwrap().release();
    assert_eq!(writer.append(b"small", 0).unwrap(), Some(3));
}

#[test]
fn a_record_that_was_begun_and_not_published_does_not_come() {
    let (mut writer, mut reader) = connected(4096, 3);
    let mut begun = writer.begin(5, 0).unwrap().unwrap();
    begun.bytes().copy_from_slice(b"never");
    drop(begun);
    assert!(reader.next_record().unwrap().is_none());
    writer.append(b"ever", 0).unwrap();
    assert_eq!(reader.next_record().unwrap().unwrap().copy().unwrap(), "ever");
}

#[test]
fn a_dead_consumer_is_forgotten_with_all_that_it_held() {
    let (mut writer, mut reader) = connected(4096, 4);
    while writer.append(&[1; 900], 0).unwrap().is_some() {}
    let held = reader.next_record().unwrap().unwrap();
    let limits = Limits::default();
    assert!(matches!(writer.connect(reader.as_fd(), &limits), Err(OpenError::Connected)));
    drop(reader);
    assert_eq!(writer.append(&[2; 900], 0).unwrap(), None);
    writer.reclaim_all();
    let mut next = LogReader::open(writer.as_fd(), writer.start(), &limits).unwrap();
    writer.connect(next.as_fd(), &limits).unwrap();
    drop(held);
    assert!(next.next_record().unwrap().is_none());
    for byte in 0..10 {
        writer.append(&[byte; 900], 0).unwrap().unwrap();
        assert_eq!(next.next_record().unwrap().unwrap().copy().unwrap(), vec![byte; 900]);
    }
}

#[test]
fn a_producer_without_a_consumer_stops_when_the_ring_is_full() {
    let mut writer = LogWriter::create(LogLayout::new(4096, 100).unwrap()).unwrap();
    let records = std::iter::from_fn(|| writer.append(&[0; 48], 0).unwrap()).count();
    assert_eq!(records, 64);
}

#[test]
fn what_no_ring_has_room_for_is_refused() {
    let (mut writer, _reader) = connected(4096, 4);
    let bytes_max = writer.layout().record_bytes_max();
    assert_eq!(bytes_max, 2032);
    assert!(writer.append(&vec![0; bytes_max], 0).unwrap().is_some());
    let refused = writer.append(&vec![0; bytes_max + 1], 0);
    assert_eq!(refused, Err(RecordError::TooLong { bytes: 2033, bytes_max }));
    assert_eq!(LogLayout::new(4095, 1), Err(LayoutError::RingBytes(4095)));
    assert_eq!(LogLayout::new(64, 1), Err(LayoutError::RingBytes(64)));
    assert_eq!(LogLayout::new(4096, 0), Err(LayoutError::Window(0)));
    assert_eq!(LogLayout::new(1 << 40, 1), Err(LayoutError::TooLarge));
}

#[test]
fn leases_are_given_back_by_other_threads() {
    let (mut writer, mut reader) = connected(1 << 14, 16);
    let (leases, taken) = mpsc::sync_channel::<Lease>(4);
    let taken = Mutex::new(taken);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let Ok(lease) = taken.lock().unwrap().recv() else { return };
                    assert_eq!(lease.copy().unwrap(), vec![lease.sequence() as u8; lease.len()]);
                }
            });
        }
        let mut read = 0;
        let mut written = 0_u64;
        while read < 2000 {
            let length = (written * 37 % 5000) as usize;
            if written < 2000 && writer.append(&vec![written as u8; length], 0).unwrap().is_some() {
                written += 1;
            }
            while let Some(lease) = reader.next_record().unwrap() {
                leases.send(lease).unwrap();
                read += 1;
            }
        }
        drop(leases);
    });
}

#[test]
fn elements_are_looked_at_in_place() {
    let (mut writer, mut reader) = connected(1 << 14, 4);
    let numbers: Vec<u32> = (0..1000).collect();
    // Records lie 16 bytes behind a multiple of 64.
    let mut record = vec![0; 48];
    record.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
    writer.append(&record, 0).unwrap().unwrap();
    let lease = reader.next_record().unwrap().unwrap();
    let view = lease.view::<u32>(48, 1000).unwrap();
    assert_eq!((view.len(), view.get(999), view.get(1000)), (1000, Some(999), None));
    assert!(view.iter().eq(numbers.iter().copied()));
    assert_eq!(view.to_vec(), numbers);
    let mut sum = 0;
    view.for_each_chunk(|chunk| sum += chunk.iter().sum::<u32>());
    assert_eq!(sum, 499_500);
    assert!(!view.copy_from(999, &mut [0; 2]));
    assert_eq!(lease.copy_range(52, 4).unwrap()[..], 1_u32.to_le_bytes());
    assert!(lease.view::<u32>(48, 1001).is_err() && lease.view::<u32>(50, 1).is_err());
    assert!(lease.view::<u64>(usize::MAX, 1).is_err() && lease.view::<u64>(0, usize::MAX).is_err());
    assert!(lease.copy_range(4000, 49).is_err() && lease.copy_to(4048, &mut [0_u8]).is_err());
}
