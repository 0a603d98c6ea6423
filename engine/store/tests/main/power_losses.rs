use envmill_delivery::{Batch, MemoryJournal};
use envmill_store::Store;
use envmill_world::Random;

use crate::{faulty_disk::FaultyDisk, script};

/// Applies batches until the power goes; how many were said to be on disk. `None`: it went while the
/// store was made. A file gets its name only after that.
fn applied(disk: &FaultyDisk, batches: &[Batch]) -> Option<usize> {
    let mut store = Store::open(disk.medium()).ok()?;
    Some(batches.iter().take_while(|batch| store.apply(batch).is_ok()).count())
}

fn same(store: &mut Store, journal: &MemoryJournal) -> bool {
    let jobs = store.jobs().unwrap();
    jobs == journal.jobs()
        && jobs.iter().all(|job| {
            job.restored.items.iter().all(|(sequence, _)| {
                let key = job.restored.job;
                store.payload(key, *sequence).unwrap() == journal.payload(key, *sequence)
            })
        })
}

/// After every loss there is what was said to be on disk, and of the batch that was being written
/// all or nothing.
fn survives(seed: u64, stride: u64) -> u64 {
    let batches = script::batches(seed, 60);
    let disk = FaultyDisk::default();
    assert_eq!(applied(&disk, &batches), Some(batches.len()));
    let mut losses = 0;
    for operation in (seed % stride..disk.operations()).step_by(stride as usize) {
        let disk = FaultyDisk::default();
        disk.power_until(operation);
        let Some(certain) = applied(&disk, &batches) else { continue };
        let left = disk.after_the_loss(&mut Random::new(seed ^ operation));
        let mut store = Store::open(left.medium()).unwrap_or_else(|error| {
            panic!("seed {seed}, power until {operation}: {error}");
        });
        let mut journal = MemoryJournal::default();
        for batch in &batches[..certain] {
            journal.apply(batch);
        }
        if !same(&mut store, &journal) {
            let next = batches.get(certain).expect("nothing came after the last batch");
            journal.apply(next);
            assert!(same(&mut store, &journal), "seed {seed}, power until {operation}");
        }
        // And it goes on.
        for batch in &batches[certain..] {
            store.apply(batch).unwrap();
            journal.apply(batch);
        }
        assert!(same(&mut store, &journal), "seed {seed}, power until {operation}");
        losses += 1;
    }
    losses
}

/// `ENVMILL_POWER_LOSSES=10000` plays so many.
#[test]
fn every_loss_of_power_leaves_what_was_said_to_be_on_disk() {
    let wanted = std::env::var("ENVMILL_POWER_LOSSES").map_or(1_000, |it| it.parse().unwrap());
    let mut losses = 0;
    for seed in 0.. {
        losses += survives(seed, 5);
        if losses >= wanted {
            break;
        }
    }
}
