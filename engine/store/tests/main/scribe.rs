use std::sync::mpsc::{self, Receiver};

use envmill_delivery::{JobKey, MemoryJournal};
use envmill_store::{ApplyError, News, Scribe, Store};

use crate::{faulty_disk::FaultyDisk, script};

fn scribe(disk: &FaultyDisk) -> (Scribe, Receiver<News>) {
    let (tell, news) = mpsc::channel();
    let store = Store::open(disk.medium()).unwrap();
    (Scribe::start(store, move |it| tell.send(it).unwrap()).unwrap(), news)
}

#[test]
fn batches_are_written_in_their_order_and_read_again() {
    let disk = FaultyDisk::default();
    let (scribe, news) = scribe(&disk);
    let mut journal = MemoryJournal::default();
    for batch in script::batches(3, 200) {
        journal.apply(&batch);
        let ticket = batch.ticket;
        scribe.write(batch);
        assert!(matches!(news.recv().unwrap(), News::Committed(written) if written == ticket));
    }
    for job in journal.jobs() {
        let key = job.restored.job;
        for (asked, _) in job.restored.items {
            scribe.read(key, asked);
            let News::Loaded { job, sequence, payload } = news.recv().unwrap() else { panic!() };
            assert_eq!((job, sequence, payload), (key, asked, journal.payload(key, asked)));
        }
    }
    let mut store = scribe.finish().unwrap();
    assert_eq!(store.jobs().unwrap(), journal.jobs());
}

#[test]
fn a_full_disk_is_tried_again_until_there_is_room() {
    let batches = script::batches(7, 400);
    let disk = FaultyDisk::default();
    let (scribe, news) = scribe(&disk);
    disk.room(Some(200 << 10));
    for batch in batches.iter().cloned() {
        scribe.write(batch);
    }
    // Asked meanwhile, answered in its turn.
    scribe.read(JobKey(1), u64::MAX);
    let (mut committed, mut was_full) = (0, false);
    loop {
        match news.recv().unwrap() {
            News::Committed(ticket) => {
                committed += 1;
                assert_eq!(ticket, batches[committed - 1].ticket);
            }
            News::WriteFails(ApplyError::Full(_)) => {
                was_full = true;
                disk.room(None);
            }
            News::Loaded { payload, .. } => {
                assert_eq!(payload, None);
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(was_full && committed == batches.len());
    let mut journal = MemoryJournal::default();
    batches.iter().for_each(|batch| journal.apply(batch));
    assert_eq!(scribe.finish().unwrap().jobs().unwrap(), journal.jobs());
}

#[test]
fn who_does_not_want_to_wait_for_room_gets_what_was_committed() {
    let batches = script::batches(7, 400);
    let disk = FaultyDisk::default();
    let (scribe, news) = scribe(&disk);
    disk.room(Some(200 << 10));
    let mut journal = MemoryJournal::default();
    for batch in batches {
        scribe.write(batch.clone());
        match news.recv().unwrap() {
            News::Committed(_) => journal.apply(&batch),
            News::WriteFails(_) => break,
            other => panic!("{other:?}"),
        }
    }
    // What is there can be read although there is no room.
    assert_eq!(scribe.finish().unwrap().jobs().unwrap(), journal.jobs());
    disk.room(None);
    assert_eq!(Store::open(disk.medium()).unwrap().jobs().unwrap(), journal.jobs());
}
