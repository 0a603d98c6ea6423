use std::{
    fs,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use envmill_delivery::{Batch, Change, JobKey, MemoryJournal, Ticket};
use envmill_store::{Medium, OpenError, SCHEMA, Store};
use redb::TableDefinition;

use crate::script;

fn place() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal.redb");
    (directory, path)
}

fn open(path: &Path) -> Store {
    Store::open(Medium::File(path.to_owned())).unwrap()
}

#[test]
fn what_was_written_is_read_again() {
    let (_directory, path) = place();
    let mut journal = MemoryJournal::default();
    for (incarnation, seed) in (1..).zip(0..5) {
        let mut store = open(&path);
        assert_eq!(store.incarnation(), incarnation);
        assert_eq!(store.jobs().unwrap(), journal.jobs());
        for job in journal.jobs() {
            assert!(store.new_job() > job.restored.job);
            let gone = Batch {
                ticket: Ticket(1),
                changes: vec![Change::JobGone { job: job.restored.job }],
            };
            store.apply(&gone).unwrap();
            journal.apply(&gone);
        }
        for batch in script::batches(seed, 300) {
            store.apply(&batch).unwrap();
            journal.apply(&batch);
        }
        assert_eq!(store.jobs().unwrap(), journal.jobs());
    }
}

#[test]
fn a_key_is_not_given_again_even_when_its_job_is_forgotten() {
    let (_directory, path) = place();
    let mut store = open(&path);
    let first = store.new_job();
    let terms =
        script::batches(0, 1).into_iter().flat_map(|batch| batch.changes).find_map(|change| {
            match change {
                Change::Job { terms, .. } => Some(terms),
                _ => None,
            }
        });
    let accepted = Change::Job { job: first, terms: terms.unwrap(), description: Bytes::new() };
    for changes in [vec![accepted], vec![Change::JobGone { job: first }]] {
        store.apply(&Batch { ticket: Ticket(1), changes }).unwrap();
    }
    drop(store);
    assert_eq!(open(&path).new_job(), JobKey(first.0 + 1));
}

#[test]
fn a_store_is_one_process_s_at_a_time() {
    let (_directory, path) = place();
    let store = open(&path);
    let refused = Store::open(Medium::File(path.clone())).unwrap_err();
    assert!(matches!(refused, OpenError::InUse), "{refused}");
    drop(store);
    open(&path);
}

#[test]
fn a_newer_store_is_left_alone() {
    let (_directory, path) = place();
    drop(open(&path));
    let meta: TableDefinition<&str, u64> = TableDefinition::new("meta");
    let set_schema = |schema| {
        let database = redb::Database::open(&path).unwrap();
        let transaction = database.begin_write().unwrap();
        transaction.open_table(meta).unwrap().insert("schema", schema).unwrap();
        transaction.commit().unwrap();
    };
    set_schema(99);
    let refused = Store::open(Medium::File(path.clone())).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "the store has schema 99 and this version knows 1; use a newer version"
    );
    set_schema(SCHEMA);
    assert_eq!(open(&path).incarnation(), 2);
}

#[test]
fn what_is_left_of_a_store_that_was_being_made_is_made_anew() {
    let (_directory, path) = place();
    fs::write(path.with_extension("new"), [0; 4096]).unwrap();
    assert_eq!(open(&path).incarnation(), 1);
    assert!(!path.with_extension("new").exists());
}

#[test]
fn what_is_no_store_is_refused() {
    let (_directory, path) = place();
    for garbage in [&b"short"[..], &[7; 10_000], &[0; 4096]] {
        fs::write(&path, garbage).unwrap();
        Store::open(Medium::File(path.clone())).unwrap_err();
    }
}

#[test]
fn a_file_does_not_stay_as_large_as_it_once_was() {
    let (_directory, path) = place();
    let mut store = open(&path);
    let payload = Bytes::from(vec![1; 1 << 20]);
    let job = JobKey(1);
    let mut apply = |change: Change| {
        store.apply(&Batch { ticket: Ticket(1), changes: vec![change] }).unwrap();
        store.bytes().unwrap()
    };
    for sequence in 0..100 {
        apply(Change::Payload { job, sequence, payload: payload.clone() });
    }
    let (file, payloads) = apply(Change::ItemGone { job, sequence: 0 });
    assert!(file > 100 << 20 && payloads == 99 << 20);
    for sequence in 1..200 {
        apply(Change::ItemGone { job, sequence });
    }
    let (file, payloads) = apply(Change::ItemGone { job, sequence: 0 });
    assert!(file < 10 << 20 && payloads == 0, "{file} bytes");
}
