use envmill_delivery::MemoryJournal;
use envmill_store::{ApplyError, Store};

use crate::{faulty_disk::FaultyDisk, script};

#[test]
fn a_full_disk_says_so_and_goes_on_when_there_is_room() {
    let batches = script::batches(7, 400);
    let disk = FaultyDisk::default();
    let mut store = Store::open(disk.medium()).unwrap();
    let mut journal = MemoryJournal::default();
    disk.room(Some(200 << 10));
    let mut was_full = false;
    for batch in &batches {
        loop {
            match store.apply(batch) {
                Ok(()) => break,
                Err(ApplyError::Full(_)) => {
                    was_full = true;
                    disk.room(None);
                }
                Err(other) => panic!("{other}"),
            }
        }
        journal.apply(batch);
    }
    assert!(was_full);
    assert_eq!(store.jobs().unwrap(), journal.jobs());
}
