//! A job's sampler in the journal: what a group plays and what came of each task outlive the engine.
//!
//! A round is in the journal before the player is told of it, and what came of a group goes there together
//! with the group's record.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use envmill_core::{Revisit, Round, Sampler, SamplerState, TaskRecord, Tasks};
use envmill_protocol::record::GroupRecord;
use envmill_wire as wire;
use prost::Message as _;

use crate::refusal::Refusal;

/// The name of the note with the rounds.
const ROUNDS: &str = "rounds";
/// What the names of the notes with what came of tasks begin with.
const RECORDS: &str = "tasks-";
/// So many tasks are in one of these.
const CHUNK: usize = 64;
/// The most tasks of a job that samples.
const TASKS_MAX: usize = 1 << 20;
/// What is read where a job does not say.
const EVERY_MAX: u32 = 8;
/// The least that a task may be visited, one in so many times.
const EVERY_LIMIT: u32 = 64;

/// Completes how a job samples its tasks. `None` if it does not ask for that.
pub(crate) fn read(job: &mut wire::SubmitJob, tasks: &Tasks) -> Result<Option<How>, Refusal> {
    let Some(sampling) = &mut job.sampling else { return Ok(None) };
    let refused = |what: &str| Err(Refusal::argument(format!("sampling{what}")));
    if tasks.is_empty() || tasks.len() > TASKS_MAX {
        return refused(&format!(": of 1 to {TASKS_MAX} tasks: give `tasks` or a `task_set`"));
    }
    if job.groups == 0 {
        return refused(": by what comes of groups: ask for groups, not for episodes");
    }
    let Some(revisit) = &mut sampling.revisit else { return Ok(Some(None)) };
    if job.epochs > 0 {
        return refused(
            ".revisit: how long a round is, is not known beforehand: ask for groups, not epochs",
        );
    }
    if job.group_rules.is_none_or(|rules| rules.samples < 2) {
        return refused(".revisit: groups of one sample have no variance to go by: ask for more");
    }
    revisit.after = revisit.after.max(1);
    if revisit.at_least_one_in == 0 {
        revisit.at_least_one_in = EVERY_MAX;
    }
    if revisit.at_least_one_in > EVERY_LIMIT {
        return refused(&format!(".revisit.at_least_one_in: at most {EVERY_LIMIT}"));
    }
    let every_max = revisit.at_least_one_in;
    Ok(Some(Some(Revisit { after: revisit.after, every_max })))
}

/// How tasks are sampled: with or without going by what came of them.
pub(crate) type How = Option<Revisit>;

/// The sampler of a job, and what the journal does not know of it yet.
#[derive(Debug)]
pub(crate) struct Sampling {
    sampler: Sampler,
    /// No group before this one is open.
    first_open: u64,
    is_rounds_dirty: bool,
    dirty: BTreeSet<usize>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RoundsNote {
    #[prost(uint64, tag = "1")]
    next_round: u64,
    #[prost(uint64, repeated, tag = "2")]
    visits: Vec<u64>,
    #[prost(uint32, repeated, tag = "3")]
    in_hand: Vec<u32>,
    #[prost(message, repeated, tag = "4")]
    rounds: Vec<RoundNote>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RoundNote {
    #[prost(uint64, tag = "1")]
    number: u64,
    #[prost(uint64, tag = "2")]
    start: u64,
    /// The places of its tasks, each as what it is more than the one before it.
    #[prost(uint32, repeated, tag = "3")]
    steps: Vec<u32>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RecordsNote {
    #[prost(message, repeated, tag = "1")]
    records: Vec<RecordNote>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RecordNote {
    #[prost(uint64, tag = "1")]
    groups: u64,
    #[prost(uint64, tag = "2")]
    varied: u64,
    #[prost(uint64, tag = "3")]
    unvaried: u64,
    #[prost(uint32, tag = "4")]
    unvaried_in_a_row: u32,
    #[prost(uint64, tag = "5")]
    rewards: u64,
    #[prost(double, tag = "6")]
    reward_sum: f64,
}

impl Sampling {
    /// As the journal's notes have it; a job that has none begins.
    pub(crate) fn restored(
        tasks: Tasks,
        seed: u64,
        how: How,
        notes: &BTreeMap<String, Bytes>,
    ) -> Result<Self, prost::DecodeError> {
        let mut state = SamplerState::default();
        let mut is_begun = false;
        if let Some(note) = notes.get(ROUNDS) {
            let note = RoundsNote::decode(note.clone())?;
            is_begun = true;
            (state.next_round, state.visits) = (note.next_round, note.visits);
            (state.in_hand, state.rounds) =
                (note.in_hand, note.rounds.into_iter().map(RoundNote::into_round).collect());
            state.records = vec![TaskRecord::default(); tasks.len()];
        }
        for (name, value) in notes {
            let Some(chunk) = name.strip_prefix(RECORDS).and_then(|it| it.parse::<usize>().ok())
            else {
                continue;
            };
            let note = RecordsNote::decode(value.clone())?;
            for (offset, record) in note.records.into_iter().enumerate() {
                let task = chunk.saturating_mul(CHUNK).saturating_add(offset);
                if let Some(its) = state.records.get_mut(task) {
                    *its = record.into_record();
                }
            }
        }
        let sampler = Sampler::restored(tasks, seed, how, state);
        let mut sampling =
            Self { sampler, first_open: 0, is_rounds_dirty: false, dirty: BTreeSet::new() };
        if !is_begun {
            sampling.draw(|_| false);
        }
        Ok(sampling)
    }

    /// Its tasks with the rounds that a player may know of.
    pub(crate) fn tasks(&self) -> Tasks {
        let rounds = self.sampler.state().rounds.iter().cloned().collect();
        self.sampler.tasks().clone().in_rounds(rounds)
    }

    /// Draws the next round. It is a player's when the notes are on disk.
    pub(crate) fn draw(&mut self, is_over: impl Fn(u64) -> bool) -> Option<Round> {
        while self.first_open < self.sampler.end() && is_over(self.first_open) {
            self.first_open += 1;
        }
        self.sampler.forget_before(self.first_open);
        self.is_rounds_dirty = true;
        self.sampler.draw()
    }

    /// A group is over.
    pub(crate) fn add(&mut self, group: &GroupRecord) {
        if let Some(task) = self.sampler.add(group) {
            self.dirty.insert(task as usize / CHUNK);
        }
    }

    /// The notes that have changed.
    pub(crate) fn take_notes(&mut self) -> Vec<(String, Bytes)> {
        let state = self.sampler.state();
        let mut notes = Vec::new();
        for chunk in std::mem::take(&mut self.dirty) {
            let records = state.records.iter().skip(chunk * CHUNK).take(CHUNK);
            let note = RecordsNote { records: records.map(RecordNote::of).collect() };
            notes.push((format!("{RECORDS}{chunk}"), note.encode_to_vec().into()));
        }
        if std::mem::take(&mut self.is_rounds_dirty) {
            let note = RoundsNote {
                next_round: state.next_round,
                visits: state.visits.clone(),
                in_hand: state.in_hand.clone(),
                rounds: state.rounds.iter().map(RoundNote::of).collect(),
            };
            notes.push((ROUNDS.into(), note.encode_to_vec().into()));
        }
        notes
    }

    /// How many tasks there are.
    pub(crate) fn len(&self) -> usize {
        self.sampler.tasks().len()
    }

    /// How many of its tasks are visited less than their weight says.
    pub(crate) fn visited_less(&self) -> u64 {
        (0..self.len()).filter(|&task| self.sampler.one_in(task) > 1).count() as u64
    }

    /// What came of so many tasks, from this one on.
    pub(crate) fn statuses(&self, from: usize, count: usize) -> Vec<wire::TaskStatus> {
        let state = self.sampler.state();
        let tasks = self.sampler.tasks().as_slice().iter().enumerate().skip(from).take(count);
        let status = |(index, task): (usize, &envmill_core::Task)| {
            let record = state.records[index];
            wire::TaskStatus {
                index: index as u64,
                id: task.id.clone(),
                visits: state.visits[index],
                groups: record.groups,
                varied: record.varied,
                unvaried: record.unvaried,
                unvaried_in_a_row: record.unvaried_in_a_row,
                reward_mean: record.reward_mean(),
                one_in: self.sampler.one_in(index),
            }
        };
        tasks.map(status).collect()
    }
}

impl RoundNote {
    fn of(round: &Round) -> Self {
        let mut last = 0;
        // They are in order, since they are drawn so.
        let step = |&task: &u32| task - std::mem::replace(&mut last, task);
        Self {
            number: round.number,
            start: round.start,
            steps: round.tasks.iter().map(step).collect(),
        }
    }

    fn into_round(self) -> Round {
        let mut last = 0_u32;
        let task = |step: u32| {
            last = last.saturating_add(step);
            last
        };
        Round {
            number: self.number,
            start: self.start,
            tasks: self.steps.into_iter().map(task).collect(),
        }
    }
}

impl RecordNote {
    fn of(record: &TaskRecord) -> Self {
        let &TaskRecord { groups, varied, unvaried, unvaried_in_a_row, rewards, reward_sum } =
            record;
        Self { groups, varied, unvaried, unvaried_in_a_row, rewards, reward_sum }
    }

    fn into_record(self) -> TaskRecord {
        let Self { groups, varied, unvaried, unvaried_in_a_row, rewards, reward_sum } = self;
        TaskRecord { groups, varied, unvaried, unvaried_in_a_row, rewards, reward_sum }
    }
}
