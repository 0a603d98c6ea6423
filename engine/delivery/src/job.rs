//! One job: its items from the moment they are recorded until nothing of them is owed.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::{
    Change, Finished, Ids, ItemRow, JobKey, JobRow, Kind, Number, Order, Output, Pace, RecordError,
    RestoredJob, Stage, Standing, Terms, Ticket, Version, VersionError, consumer::Consumer,
    delivery::Shared, item::Item,
};

#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) key: JobKey,
    pub(crate) terms: Terms,
    pub(crate) row: JobRow,
    ids: [Ids; 3],
    pub(crate) items: BTreeMap<u64, Item>,
    /// Items of groups that are not decided.
    held: BTreeMap<u64, Vec<u64>>,
    /// What may go, by its place.
    pub(crate) ready: BTreeMap<u64, Entry>,
    /// What has a number and is still here.
    pub(crate) issued: BTreeMap<Number, u64>,
    /// By rank.
    pub(crate) consumers: BTreeMap<u32, Consumer>,
    /// Who wants the next batch, and of how many groups.
    pub(crate) wishes: BTreeMap<u32, u64>,
    waiting_items: u64,
    waiting_bytes: u64,
    /// How many of those with a number are acknowledged and kept.
    pub(crate) kept_items: u64,
    pace: Pace,
    dirty: Dirty,
    /// The last batch of changes that anything of this job is in.
    pub(crate) touched_in: Ticket,
    is_settled: bool,
}

/// Items that go together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Entry {
    pub(crate) sequences: Vec<u64>,
    pub(crate) is_usable: bool,
}

/// What the journal has not been told.
#[derive(Debug, Default)]
struct Dirty {
    description: Option<Bytes>,
    row: bool,
    items: BTreeSet<u64>,
    payloads_gone: BTreeSet<u64>,
    items_gone: BTreeSet<u64>,
    ids: BTreeSet<(Kind, u64)>,
    notes: BTreeMap<String, Bytes>,
}

impl Job {
    pub(crate) fn new(key: JobKey, terms: Terms, description: Bytes, shared: &Shared) -> Self {
        let dirty = Dirty { description: Some(description), row: true, ..Dirty::default() };
        Self { dirty, touched_in: shared.next, ..Self::empty(key, terms) }
    }

    fn empty(key: JobKey, terms: Terms) -> Self {
        Self {
            key,
            terms,
            row: JobRow::default(),
            ids: Default::default(),
            items: BTreeMap::new(),
            held: BTreeMap::new(),
            ready: BTreeMap::new(),
            issued: BTreeMap::new(),
            consumers: BTreeMap::new(),
            wishes: BTreeMap::new(),
            waiting_items: 0,
            waiting_bytes: 0,
            kept_items: 0,
            pace: Pace::GoOn,
            dirty: Dirty::default(),
            touched_in: Ticket::default(),
            is_settled: false,
        }
    }

    pub(crate) fn restored(from: RestoredJob) -> Self {
        let mut job = Self::empty(from.job, from.terms);
        (job.row, job.ids) = (from.row, from.ids);
        for (sequence, row) in from.items {
            let was_sent = match row.stage {
                Stage::Waiting => false,
                Stage::Issued(issue) | Stage::Acknowledged { issue, .. } => {
                    job.issued.insert(issue.number, sequence);
                    job.kept_items += u64::from(row.stage.is_acknowledged());
                    true
                }
            };
            let written_in = Ticket::default();
            let item =
                Item { row, payload: None, written_in, is_new: false, is_in_line: false, was_sent };
            job.items.insert(sequence, item);
            match (row.stage, row.place) {
                (Stage::Waiting, None) => job.held.entry(row.group).or_default().push(sequence),
                (Stage::Waiting, Some(place)) => job.make_ready(sequence, place),
                (Stage::Issued(issue), Some(place)) if issue.rank.is_none() => {
                    job.make_ready(sequence, place);
                }
                _ => (),
            }
        }
        job
    }

    pub(crate) fn has_recorded(&self, kind: Kind, id: u64) -> bool {
        self.ids[kind as usize].contains(id)
    }

    pub(crate) const fn ids(&self, kind: Kind) -> &Ids {
        &self.ids[kind as usize]
    }

    pub(crate) fn record(
        &mut self,
        finished: Finished,
        shared: &mut Shared,
    ) -> Result<(), RecordError> {
        let Finished { id, kind, group, version, payload } = finished;
        if self.has_recorded(kind, id) {
            return Err(RecordError::AlreadyRecorded { kind, id });
        }
        if self.row.has_ended {
            return Err(RecordError::JobEnded);
        }
        if kind == Kind::End {
            // Groups that nobody has decided are not to be lost with the job.
            while let Some(group) = self.held.keys().next().copied() {
                self.release(group, false, shared);
            }
            self.row.has_ended = true;
        }
        self.ids[kind as usize].insert(id);
        self.dirty.ids.insert((kind, id / Ids::CHUNK));
        let sequence = self.row.next_sequence;
        self.row.next_sequence += 1;
        let bytes = payload.len() as u64;
        let row = ItemRow {
            id,
            kind,
            group,
            version,
            bytes,
            place: None,
            is_usable: false,
            stage: Stage::Waiting,
        };
        shared.arrived(self.key, sequence, bytes);
        let item = Item {
            row,
            payload: Some(payload),
            written_in: shared.next,
            is_new: true,
            is_in_line: false,
            was_sent: false,
        };
        self.items.insert(sequence, item);
        self.touch(sequence, shared);
        if self.terms.order == Order::AsFinished || kind == Kind::End {
            self.place(&[sequence], kind != Kind::End);
        } else {
            self.held.entry(group).or_default().push(sequence);
        }
        Ok(())
    }

    /// A group is decided: what is held of it may go. Whether there was anything.
    pub(crate) fn release(&mut self, group: u64, is_usable: bool, shared: &Shared) -> bool {
        let Some(sequences) = self.held.remove(&group) else { return false };
        for &sequence in &sequences {
            self.touch(sequence, shared);
        }
        self.place(&sequences, is_usable);
        true
    }

    fn place(&mut self, sequences: &[u64], is_usable: bool) {
        let place = self.row.next_place;
        self.row.next_place += 1;
        for &sequence in sequences {
            if let Some(item) = self.items.get_mut(&sequence) {
                (item.row.place, item.row.is_usable) = (Some(place), is_usable);
            }
            self.make_ready(sequence, place);
        }
    }

    pub(crate) fn make_ready(&mut self, sequence: u64, place: u64) {
        let Some(item) = self.items.get(&sequence) else { return };
        let entry = self.ready.entry(place).or_default();
        entry.sequences.push(sequence);
        entry.is_usable = item.row.is_usable;
        self.waiting_items += 1;
        self.waiting_bytes += item.row.bytes;
    }

    /// Takes an entry out of what is ready.
    pub(crate) fn take_ready(&mut self, place: u64) -> Entry {
        let entry = self.ready.remove(&place).unwrap_or_default();
        for sequence in &entry.sequences {
            self.waiting_items -= 1;
            self.waiting_bytes -= self.items.get(sequence).map_or(0, |item| item.row.bytes);
        }
        entry
    }

    pub(crate) fn announce(
        &mut self,
        version: Version,
        shared: &Shared,
    ) -> Result<(), VersionError> {
        let current = self.row.version;
        if version < current {
            return Err(VersionError::WentBack { announced: version, current });
        }
        if version > current {
            self.row.version = version;
            self.touch_row(shared);
        }
        Ok(())
    }

    pub(crate) fn note(&mut self, name: String, value: Bytes, shared: &Shared) {
        self.dirty.notes.insert(name, value);
        self.touched_in = shared.next;
    }

    pub(crate) fn touch(&mut self, sequence: u64, shared: &Shared) {
        if let Some(item) = self.items.get_mut(&sequence) {
            item.written_in = shared.next;
            self.dirty.items.insert(sequence);
            self.touch_row(shared);
        }
    }

    /// The counters nearly always change with what they count, so they are told whenever anything is.
    pub(crate) const fn touch_row(&mut self, shared: &Shared) {
        self.dirty.row = true;
        self.touched_in = shared.next;
    }

    /// The item stays, its payload is never needed again.
    pub(crate) fn drop_payload(&mut self, sequence: u64, shared: &mut Shared) {
        self.unload(sequence, shared);
        // The journal never hears of the payload of an item that it has not been told of.
        if self.items.get(&sequence).is_some_and(|item| !item.is_new) {
            self.dirty.payloads_gone.insert(sequence);
        }
    }

    /// Nothing of the item is needed again.
    pub(crate) fn remove(&mut self, sequence: u64, shared: &mut Shared) {
        self.unload(sequence, shared);
        let Some(item) = self.items.remove(&sequence) else { return };
        if let Stage::Issued(issue) | Stage::Acknowledged { issue, .. } = item.row.stage {
            self.issued.remove(&issue.number);
            self.kept_items -= u64::from(item.row.stage.is_acknowledged());
        }
        self.dirty.items.remove(&sequence);
        self.dirty.payloads_gone.remove(&sequence);
        self.dirty.items_gone.insert(sequence);
        self.touch_row(shared);
    }

    /// Takes a payload out of memory.
    pub(crate) fn unload(&mut self, sequence: u64, shared: &mut Shared) {
        let item = self.items.get_mut(&sequence);
        if let Some(payload) = item.and_then(|item| item.payload.take()) {
            shared.resident_bytes -= payload.len() as u64;
        }
    }

    /// Bytes of its payloads in memory.
    pub(crate) fn resident_bytes(&self) -> u64 {
        let payloads = self.items.values().filter_map(|item| item.payload.as_ref());
        payloads.map(|payload| payload.len() as u64).sum()
    }

    pub(crate) fn loaded(&mut self, sequence: u64, payload: Bytes, shared: &mut Shared) {
        if let Some(item) = self.items.get_mut(&sequence)
            && item.is_in_line
            && item.payload.is_none()
        {
            shared.resident_bytes += payload.len() as u64;
            item.payload = Some(payload);
        }
    }

    /// An item is on disk; what is not about to be sent need not be in memory as well.
    pub(crate) fn written(&mut self, sequence: u64, shared: &mut Shared) {
        let is_idle = self.items.get(&sequence).is_some_and(|item| !item.is_in_line);
        if is_idle && shared.resident_bytes > shared.options.memory_bytes_max {
            self.unload(sequence, shared);
        }
    }

    /// Tells whether episodes may go on, and whether all is said.
    pub(crate) fn tell(&mut self, shared: &mut Shared) {
        let (job, committed) = (self.key, shared.committed);
        let pace = self.pace(shared);
        if pace != self.pace {
            self.pace = pace;
            shared.outputs.push(Output::Pace { job, pace });
        }
        let is_settled =
            self.row.has_ended && self.items.is_empty() && self.touched_in <= committed;
        if is_settled && !self.is_settled {
            shared.outputs.push(Output::Settled(job));
        }
        self.is_settled = is_settled;
    }

    pub(crate) fn standing(&self) -> Standing {
        Standing {
            version: self.row.version,
            waiting_items: self.waiting_items,
            waiting_bytes: self.waiting_bytes,
            unacknowledged_items: self.issued.len() as u64 - self.kept_items,
            last_number: self.row.last_number,
            has_ended: self.row.has_ended,
            ranks: self.consumers.keys().copied().collect(),
        }
    }

    /// How far its episodes may go. They begin again when half of what waited has gone.
    fn pace(&self, shared: &Shared) -> Pace {
        if shared.is_clogged() {
            return Pace::Stop;
        }
        let Terms { waiting_items_max: items, waiting_bytes_max: bytes, .. } = self.terms;
        let below = |items, bytes| self.waiting_items < items && self.waiting_bytes < bytes;
        let has_room = match self.pace {
            Pace::GoOn => below(items, bytes),
            Pace::BeginNothing | Pace::Stop => below(items.div_ceil(2), bytes.div_ceil(2)),
        };
        if has_room { Pace::GoOn } else { Pace::BeginNothing }
    }

    /// Everything that the journal has not been told.
    pub(crate) fn take_changes(&mut self, out: &mut Vec<Change>) {
        let job = self.key;
        let dirty = std::mem::take(&mut self.dirty);
        if let Some(description) = dirty.description {
            out.push(Change::Job { job, terms: self.terms, description });
        }
        out.extend(dirty.notes.into_iter().map(|(name, value)| Change::Note { job, name, value }));
        for sequence in dirty.items {
            let Some(item) = self.items.get_mut(&sequence) else { continue };
            out.push(Change::Item { job, sequence, row: item.row });
            if std::mem::take(&mut item.is_new)
                && let Some(payload) = item.payload.clone()
            {
                out.push(Change::Payload { job, sequence, payload });
            }
        }
        for (kind, chunk) in dirty.ids {
            let words = Box::new(self.ids[kind as usize].chunk(chunk));
            out.push(Change::Ids { job, kind, chunk, words });
        }
        let gone = dirty.payloads_gone.into_iter();
        out.extend(gone.map(|sequence| Change::PayloadGone { job, sequence }));
        let gone = dirty.items_gone.into_iter();
        out.extend(gone.map(|sequence| Change::ItemGone { job, sequence }));
        if dirty.row {
            out.push(Change::JobRow { job, row: self.row.clone() });
        }
    }
}
