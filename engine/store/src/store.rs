//! The store itself.

use std::collections::BTreeMap;

use bytes::Bytes;
use envmill_delivery::{
    Batch, Change, Ids, ItemRow, JobKey, JobRow, RestoredJob, StoredJob, Terms,
};
use redb::{
    Database, ReadableDatabase as _, ReadableTable as _, Table, TableDefinition, WriteTransaction,
};

use crate::{
    ApplyError, Medium, OpenError, ReadError,
    rows::{Row, kind_code, kind_of},
};

/// The version of what is written. Stores of smaller ones are read; see `docs/store.md`.
pub const SCHEMA: u64 = 1;

const META: TableDefinition<&str, u64> = TableDefinition::new("meta");
const JOBS: TableDefinition<u64, &[u8]> = TableDefinition::new("jobs");
const DESCRIPTIONS: TableDefinition<u64, &[u8]> = TableDefinition::new("descriptions");
const COUNTERS: TableDefinition<u64, &[u8]> = TableDefinition::new("counters");
const ITEMS: TableDefinition<(u64, u64), &[u8]> = TableDefinition::new("items");
const PAYLOADS: TableDefinition<(u64, u64), &[u8]> = TableDefinition::new("payloads");
const IDS: TableDefinition<(u64, u8, u64), &[u8]> = TableDefinition::new("ids");
const NOTES: TableDefinition<(u64, &str), &[u8]> = TableDefinition::new("notes");

const WORD: usize = size_of::<u64>();

/// A file is made smaller when it is larger than this and mostly room that is not used.
const COMPACTION_BYTES_MIN: u64 = 64 << 20;
/// So many times as large as what it holds.
const COMPACTION_FACTOR: u64 = 4;
/// Whether it is worth it is looked at every so many batches.
const COMPACTION_EVERY: u32 = 256;

/// A journal of deliveries in one file.
#[derive(Debug)]
pub struct Store {
    medium: Medium,
    /// `None` after an error, until it is opened again.
    database: Option<Database>,
    incarnation: u64,
    next_job: u64,
    /// Bytes of payloads.
    payload_bytes: u64,
    applied: u32,
}

impl Store {
    /// Opens a store, or makes one.
    ///
    /// # Errors
    ///
    /// Another process has it, it is newer than this version or damaged, or it cannot be written.
    pub fn open(mut medium: Medium) -> Result<Self, OpenError> {
        let database = medium.open().map_err(redb::Error::from)?;
        let Start { incarnation, next_job, payload_bytes } = start(&database)?;
        let database = Some(database);
        let mut store = Self { medium, database, incarnation, next_job, payload_bytes, applied: 0 };
        store.compact_if_worth_it();
        Ok(store)
    }

    /// Everything that is in a store, which is looked at and left as it is: its incarnation stays.
    ///
    /// # Errors
    ///
    /// There is none, another process has it, or it makes no sense.
    pub fn look(mut medium: Medium) -> Result<Vec<StoredJob>, OpenError> {
        medium.check()?;
        let database = medium.open().map_err(redb::Error::from)?;
        read_jobs(&database)?.into_iter().map(RawJob::decoded).collect()
    }

    /// How often this store has been opened, this time included.
    #[must_use]
    pub const fn incarnation(&self) -> u64 {
        self.incarnation
    }

    /// A key that no job of this store has had or will have. One that is not used before the process
    /// ends is given again.
    pub const fn new_job(&mut self) -> JobKey {
        self.next_job += 1;
        JobKey(self.next_job - 1)
    }

    /// Everything that is there.
    ///
    /// # Errors
    ///
    /// It cannot be read, or makes no sense.
    pub fn jobs(&mut self) -> Result<Vec<StoredJob>, OpenError> {
        let database = self.reopened()?;
        let jobs = read_jobs(&database)?;
        self.database = Some(database);
        jobs.into_iter().map(RawJob::decoded).collect()
    }

    /// Applies a batch and syncs it to the disk.
    ///
    /// # Errors
    ///
    /// The disk is full or fails. Apply the same batch again, until it works: of a batch that failed
    /// nothing or all may be there.
    pub fn apply(&mut self, batch: &Batch) -> Result<(), ApplyError> {
        let database = self.reopened()?;
        self.payload_bytes = write(&database, batch)?;
        self.database = Some(database);
        self.applied += 1;
        if self.applied.is_multiple_of(COMPACTION_EVERY) {
            self.compact_if_worth_it();
        }
        Ok(())
    }

    /// The payload of an item, if it is there.
    ///
    /// # Errors
    ///
    /// It cannot be read.
    pub fn payload(&mut self, job: JobKey, sequence: u64) -> Result<Option<Bytes>, ReadError> {
        let database = self.reopened()?;
        let payload = read_payload(&database, job, sequence)?;
        self.database = Some(database);
        Ok(payload)
    }

    /// The database, out of its place: after an error it has to be opened again, so it is put back only
    /// when nothing went wrong.
    fn reopened(&mut self) -> Result<Database, redb::Error> {
        match self.database.take() {
            Some(database) => Ok(database),
            None => Ok(self.medium.open()?),
        }
    }

    /// Bytes on disk and bytes of payloads, where they can be told.
    #[must_use]
    pub fn bytes(&self) -> Option<(u64, u64)> {
        Some((self.medium.bytes()?, self.payload_bytes))
    }

    fn compact_if_worth_it(&mut self) {
        let is_worth_it = self.bytes().is_some_and(|(file, payloads)| {
            file > COMPACTION_BYTES_MIN && file / COMPACTION_FACTOR > payloads
        });
        if is_worth_it && let Some(database) = &mut self.database {
            // What cannot be made smaller now is looked at again later.
            let _ = database.compact();
        }
    }
}

/// What an opened store begins with.
struct Start {
    incarnation: u64,
    next_job: u64,
    payload_bytes: u64,
}

/// Looks at the schema and takes the next incarnation.
fn start(database: &Database) -> Result<Start, OpenError> {
    let start = || -> Result<_, redb::Error> {
        let transaction = database.begin_write()?;
        let mut tables = Tables::open(&transaction)?;
        if let Some(found) = tables.known("schema")?.filter(|found| *found > SCHEMA) {
            return Ok(Err(found));
        }
        let start = Start {
            incarnation: tables.known("incarnation")?.unwrap_or_default() + 1,
            next_job: tables.known("next_job")?.unwrap_or(1),
            payload_bytes: tables.known("payload_bytes")?.unwrap_or_default(),
        };
        tables.meta.insert("schema", SCHEMA)?;
        tables.meta.insert("incarnation", start.incarnation)?;
        drop(tables);
        transaction.commit()?;
        Ok(Ok(start))
    };
    start()?.map_err(|found| OpenError::Newer { found, known: SCHEMA })
}

struct Tables<'txn> {
    meta: Table<'txn, &'static str, u64>,
    jobs: Table<'txn, u64, &'static [u8]>,
    descriptions: Table<'txn, u64, &'static [u8]>,
    counters: Table<'txn, u64, &'static [u8]>,
    items: Table<'txn, (u64, u64), &'static [u8]>,
    payloads: Table<'txn, (u64, u64), &'static [u8]>,
    ids: Table<'txn, (u64, u8, u64), &'static [u8]>,
    notes: Table<'txn, (u64, &'static str), &'static [u8]>,
}

impl<'txn> Tables<'txn> {
    fn open(transaction: &'txn WriteTransaction) -> Result<Self, redb::Error> {
        Ok(Self {
            meta: transaction.open_table(META)?,
            jobs: transaction.open_table(JOBS)?,
            descriptions: transaction.open_table(DESCRIPTIONS)?,
            counters: transaction.open_table(COUNTERS)?,
            items: transaction.open_table(ITEMS)?,
            payloads: transaction.open_table(PAYLOADS)?,
            ids: transaction.open_table(IDS)?,
            notes: transaction.open_table(NOTES)?,
        })
    }

    fn known(&self, name: &str) -> Result<Option<u64>, redb::Error> {
        Ok(self.meta.get(name)?.map(|known| known.value()))
    }

    /// By how much the bytes of payloads change.
    fn change(&mut self, change: &Change) -> Result<i64, redb::Error> {
        match change {
            Change::Job { job, terms, description } => {
                self.jobs.insert(job.0, terms.encode().as_slice())?;
                self.descriptions.insert(job.0, description.as_ref())?;
                let next = self.known("next_job")?.unwrap_or(1);
                self.meta.insert("next_job", next.max(job.0 + 1))?;
            }
            Change::JobRow { job, row } => {
                self.counters.insert(job.0, row.encode().as_slice())?;
            }
            Change::Item { job, sequence, row } => {
                self.items.insert((job.0, *sequence), row.encode().as_slice())?;
            }
            Change::Payload { job, sequence, payload } => {
                let before = self.payloads.insert((job.0, *sequence), payload.as_ref())?;
                return Ok(signed(payload.len()) - before.map_or(0, |it| signed(it.value().len())));
            }
            Change::PayloadGone { job, sequence } => {
                return self.payload_gone(*job, *sequence);
            }
            Change::ItemGone { job, sequence } => {
                self.items.remove((job.0, *sequence))?;
                return self.payload_gone(*job, *sequence);
            }
            Change::Ids { job, kind, chunk, words } => {
                let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
                self.ids.insert((job.0, kind_code(*kind), *chunk), bytes.as_slice())?;
            }
            Change::Note { job, name, value } => {
                self.notes.insert((job.0, name.as_str()), value.as_ref())?;
            }
            Change::JobGone { job } => return self.job_gone(job.0),
        }
        Ok(0)
    }

    fn payload_gone(&mut self, job: JobKey, sequence: u64) -> Result<i64, redb::Error> {
        let gone = self.payloads.remove((job.0, sequence))?;
        Ok(-gone.map_or(0, |gone| signed(gone.value().len())))
    }

    fn job_gone(&mut self, job: u64) -> Result<i64, redb::Error> {
        self.jobs.remove(job)?;
        self.descriptions.remove(job)?;
        self.counters.remove(job)?;
        let mut bytes = 0;
        let all = (job, 0)..=(job, u64::MAX);
        self.items.retain_in(all.clone(), |_, _| false)?;
        self.payloads.retain_in(all, |_, payload| {
            bytes += signed(payload.len());
            false
        })?;
        self.ids.retain_in((job, 0, 0)..=(job, u8::MAX, u64::MAX), |_, _| false)?;
        self.notes.retain_in((job, "")..(job + 1, ""), |_, _| false)?;
        Ok(-bytes)
    }
}

/// The bytes of payloads that there are then.
fn write(database: &Database, batch: &Batch) -> Result<u64, redb::Error> {
    let transaction = database.begin_write()?;
    let mut tables = Tables::open(&transaction)?;
    let mut difference = 0;
    for change in &batch.changes {
        difference += tables.change(change)?;
    }
    let before = tables.known("payload_bytes")?.unwrap_or_default();
    let payload_bytes = before.saturating_add_signed(difference);
    tables.meta.insert("payload_bytes", payload_bytes)?;
    drop(tables);
    transaction.commit()?;
    Ok(payload_bytes)
}

fn read_payload(
    database: &Database,
    job: JobKey,
    sequence: u64,
) -> Result<Option<Bytes>, redb::Error> {
    let payloads = database.begin_read()?.open_table(PAYLOADS)?;
    let found = payloads.get((job.0, sequence))?;
    Ok(found.map(|payload| Bytes::copy_from_slice(payload.value())))
}

/// One job as bytes.
#[derive(Default)]
struct RawJob {
    job: u64,
    terms: Vec<u8>,
    counters: Option<Vec<u8>>,
    description: Bytes,
    items: Vec<(u64, Vec<u8>)>,
    ids: Vec<(u8, u64, Vec<u8>)>,
    notes: BTreeMap<String, Bytes>,
}

fn read_jobs(database: &Database) -> Result<Vec<RawJob>, redb::Error> {
    let transaction = database.begin_read()?;
    let descriptions = transaction.open_table(DESCRIPTIONS)?;
    let counters = transaction.open_table(COUNTERS)?;
    let items = transaction.open_table(ITEMS)?;
    let (ids, notes) = (transaction.open_table(IDS)?, transaction.open_table(NOTES)?);
    let mut found = Vec::new();
    for entry in transaction.open_table(JOBS)?.iter()? {
        let (job, terms) = entry?;
        let job = job.value();
        let mut raw = RawJob { job, terms: terms.value().to_vec(), ..RawJob::default() };
        raw.counters = counters.get(job)?.map(|row| row.value().to_vec());
        if let Some(description) = descriptions.get(job)? {
            raw.description = Bytes::copy_from_slice(description.value());
        }
        for entry in items.range((job, 0)..=(job, u64::MAX))? {
            let (key, row) = entry?;
            raw.items.push((key.value().1, row.value().to_vec()));
        }
        for entry in ids.range((job, 0, 0)..=(job, u8::MAX, u64::MAX))? {
            let (key, words) = entry?;
            let (_, kind, chunk) = key.value();
            raw.ids.push((kind, chunk, words.value().to_vec()));
        }
        for entry in notes.range((job, "")..(job + 1, ""))? {
            let (key, value) = entry?;
            raw.notes.insert(key.value().1.to_owned(), Bytes::copy_from_slice(value.value()));
        }
        found.push(raw);
    }
    Ok(found)
}

impl RawJob {
    fn decoded(self) -> Result<StoredJob, OpenError> {
        let mut ids: [Ids; 3] = Default::default();
        for (kind, chunk, bytes) in self.ids {
            let kind = kind_of(kind).ok_or_else(|| OpenError::damaged("a kind of items"))?;
            let (words, _) = bytes.as_chunks::<WORD>();
            let words: Vec<u64> = words.iter().map(|word| u64::from_le_bytes(*word)).collect();
            let words = words.try_into().map_err(|_| OpenError::damaged("a chunk of ids"))?;
            ids[kind as usize].set_chunk(chunk, words);
        }
        let decoded = |(sequence, row): (u64, Vec<u8>)| Ok((sequence, ItemRow::decode(&row)?));
        let items = self.items.into_iter().map(decoded).collect::<Result<_, OpenError>>()?;
        Ok(StoredJob {
            restored: RestoredJob {
                job: JobKey(self.job),
                terms: Terms::decode(&self.terms)?,
                row: self
                    .counters
                    .map_or_else(|| Ok(JobRow::default()), |row| JobRow::decode(&row))?,
                ids,
                items,
            },
            description: self.description,
            notes: self.notes,
        })
    }
}

fn signed(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}
