//! A job, as the hub knows it.

use std::time::Instant;

use bytes::Bytes;
use envmill_core::InFlight;
use envmill_delivery::{JobKey, Pace};
use envmill_protocol::PolicyVersion;
use envmill_wire as wire;
use prost::Message as _;

use crate::{
    Desk,
    begun::Begun,
    ledger::{Ending, Ledger, NOTE, OpenGroups},
    sampling::Sampling,
};

#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) key: JobKey,
    /// What trainers call it.
    pub(crate) id: String,
    /// What was asked for, without its tasks.
    pub(crate) asked: wire::SubmitJob,
    /// Its tasks, as a hash.
    pub(crate) tasks: [u8; 32],
    /// The environment's place in the configuration; `None` if it is there no longer.
    pub(crate) environment: Option<usize>,
    pub(crate) members: u64,
    pub(crate) has_groups: bool,
    pub(crate) in_flight: InFlight,
    /// It aborts generations under way.
    pub(crate) aborts: bool,
    /// The environment's language model plays it.
    pub(crate) has_model: bool,
    pub(crate) desk: Option<Desk>,
    pub(crate) ledger: Ledger,
    pub(crate) open: OpenGroups,
    pub(crate) begun: Begun,
    /// Who draws its tasks, if the service does.
    pub(crate) sampling: Option<Sampling>,
    pub(crate) is_ledger_dirty: bool,
    /// How far the delivery lets its episodes go.
    pub(crate) pace: Pace,
    /// What the player was told last of that, and of the trainer's wish.
    pub(crate) told_pace: Pace,
    /// A version that waits for episodes in flight.
    pub(crate) pending: Option<PolicyVersion>,
    /// Everything was acknowledged.
    pub(crate) settled_at: Option<Instant>,
    /// Some trainer was attached then.
    pub(crate) seen_at: Instant,
    /// The last progress that was told.
    pub(crate) told: Option<wire::Progress>,
}

/// The episodes that an account counts.
pub(crate) const fn episodes(account: &wire::JobEnd) -> u64 {
    account.completed
        + account.truncated
        + account.failed
        + account.cancelled
        + account.stale
        + account.filtered
}

/// A hash of a job's tasks.
pub(crate) fn digest(job: &wire::SubmitJob) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    for task in &job.tasks {
        hasher.update(&task.encode_length_delimited_to_vec());
    }
    hasher.finalize().into()
}

impl Job {
    /// A job that was `asked` for and is shown as that.
    pub(crate) fn new(
        key: JobKey,
        id: String,
        shown: wire::SubmitJob,
        asked: &wire::SubmitJob,
    ) -> Self {
        Self {
            key,
            id,
            tasks: digest(asked),
            asked: shown,
            environment: None,
            members: 1,
            has_groups: false,
            in_flight: InFlight::default(),
            aborts: false,
            has_model: false,
            desk: None,
            ledger: Ledger::default(),
            open: OpenGroups::default(),
            begun: Begun::default(),
            sampling: None,
            is_ledger_dirty: false,
            pace: Pace::GoOn,
            told_pace: Pace::GoOn,
            pending: None,
            settled_at: None,
            seen_at: Instant::now(),
            told: None,
        }
    }

    /// How far its episodes may go for now.
    pub(crate) const fn pace(&self) -> Pace {
        if self.ledger.is_paused { Pace::Stop } else { self.pace }
    }

    /// Whether nothing of it is begun for now.
    pub(crate) fn is_paused(&self) -> bool {
        self.pace() != Pace::GoOn
    }

    /// Changes what is kept of it.
    pub(crate) fn ledger(&mut self) -> &mut Ledger {
        self.is_ledger_dirty = true;
        &mut self.ledger
    }

    /// What the journal has to be told.
    pub(crate) fn take_notes(&mut self) -> Vec<(String, Bytes)> {
        let mut notes = self.open.take_notes();
        notes.extend(self.begun.take_note());
        notes.extend(self.sampling.iter_mut().flat_map(Sampling::take_notes));
        if std::mem::take(&mut self.is_ledger_dirty) {
            notes.push((NOTE.into(), self.ledger.encode_to_vec().into()));
        }
        notes
    }

    pub(crate) fn wants_end(&self) -> Ending {
        self.ledger.ending()
    }

    /// The counts so far.
    pub(crate) fn account(&self) -> wire::JobEnd {
        let account = self.ledger.account.clone().unwrap_or_default();
        let requested = self.asked.episodes
            + self.asked.groups
                * self.asked.group_rules.map_or(1, |rules| u64::from(rules.samples));
        wire::JobEnd {
            job_id: self.id.clone(),
            requested,
            extra: episodes(&account).saturating_sub(requested),
            ..account
        }
    }
}
