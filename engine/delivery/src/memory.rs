//! A journal that lasts as long as the process.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::{Batch, Change, Ids, ItemRow, JobKey, JobRow, RestoredJob, StoredJob, Terms};

/// A journal in memory: for who does not ask that anything survives the process, and as what a journal
/// on disk has to agree with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryJournal {
    jobs: BTreeMap<JobKey, Job>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Job {
    terms: Option<Terms>,
    description: Bytes,
    row: JobRow,
    ids: [Ids; 3],
    items: BTreeMap<u64, ItemRow>,
    payloads: BTreeMap<u64, Bytes>,
    notes: BTreeMap<String, Bytes>,
}

impl MemoryJournal {
    /// Applies a batch.
    pub fn apply(&mut self, batch: &Batch) {
        for change in &batch.changes {
            self.change(change.clone());
        }
    }

    fn change(&mut self, change: Change) {
        match change {
            Change::Job { job, terms, description } => {
                let job = self.of(job);
                (job.terms, job.description) = (Some(terms), description);
            }
            Change::JobRow { job, row } => self.of(job).row = row,
            Change::Item { job, sequence, row } => {
                self.of(job).items.insert(sequence, row);
            }
            Change::Payload { job, sequence, payload } => {
                self.of(job).payloads.insert(sequence, payload);
            }
            Change::PayloadGone { job, sequence } => {
                self.of(job).payloads.remove(&sequence);
            }
            Change::ItemGone { job, sequence } => {
                let job = self.of(job);
                job.items.remove(&sequence);
                job.payloads.remove(&sequence);
            }
            Change::Ids { job, kind, chunk, words } => {
                self.of(job).ids[kind as usize].set_chunk(chunk, *words);
            }
            Change::Note { job, name, value } => {
                self.of(job).notes.insert(name, value);
            }
            Change::JobGone { job } => {
                self.jobs.remove(&job);
            }
        }
    }

    fn of(&mut self, job: JobKey) -> &mut Job {
        self.jobs.entry(job).or_default()
    }

    /// Everything that is there.
    #[must_use]
    pub fn jobs(&self) -> Vec<StoredJob> {
        let stored = self.jobs.iter().filter_map(|(&key, job)| {
            let restored = RestoredJob {
                job: key,
                terms: job.terms?,
                row: job.row.clone(),
                ids: job.ids.clone(),
                items: job.items.iter().map(|(&sequence, &row)| (sequence, row)).collect(),
            };
            let (description, notes) = (job.description.clone(), job.notes.clone());
            Some(StoredJob { restored, description, notes })
        });
        stored.collect()
    }

    /// The payload of an item, if it is there.
    #[must_use]
    pub fn payload(&self, job: JobKey, sequence: u64) -> Option<Bytes> {
        self.jobs.get(&job)?.payloads.get(&sequence).cloned()
    }
}
