//! One item on its way to the trainer.

use bytes::Bytes;

use crate::{Kind, Number, Ticket, Version};

/// What a journal keeps of an item beside its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ItemRow {
    /// Its number among those of its kind.
    pub id: u64,
    /// What it is.
    pub kind: Kind,
    /// Its group.
    pub group: u64,
    /// The oldest policy version that it was made on.
    pub version: Version,
    /// Bytes of its payload.
    pub bytes: u64,
    /// Where it stands among what is ready to go, once it is; members of a group share a place.
    pub place: Option<u64>,
    /// Whether it counts for a batch: its group was decided and is there to train on.
    pub is_usable: bool,
    /// How far it has come.
    pub stage: Stage,
}

/// How far an item has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It has not been sent.
    Waiting,
    /// It was sent, or is about to be.
    Issued(Issue),
    /// It was acknowledged, and is kept.
    Acknowledged {
        /// How it was sent.
        issue: Issue,
        /// The checkpoint, counted from the job's start.
        checkpoint: u64,
    },
}

/// How an item is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Issue {
    /// Its number.
    pub number: Number,
    /// What was found when its turn came.
    pub verdict: Verdict,
    /// The policy version that was current then.
    pub judged_at: Version,
    /// To which of the job's consumers; `None` once its share was released, until another gets it.
    pub rank: Option<u32>,
    /// In which batch, if in one.
    pub batch: Option<u64>,
}

/// What was found when an item's turn came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is as new as the job asks.
    Fresh,
    /// It is not.
    Stale,
}

impl ItemRow {
    /// Whether the journal has the item's payload: what was found stale needs none.
    #[must_use]
    pub const fn has_payload(&self) -> bool {
        match self.stage {
            Stage::Waiting => true,
            Stage::Issued(issue) | Stage::Acknowledged { issue, .. } => {
                matches!(issue.verdict, Verdict::Fresh)
            }
        }
    }
}

impl Item {
    /// Bytes of payload that go to the consumer.
    pub(crate) const fn bytes_sent(&self, verdict: Verdict) -> u64 {
        match verdict {
            Verdict::Fresh => self.row.bytes,
            Verdict::Stale => 0,
        }
    }
}

impl Stage {
    /// How the item is sent, if it is owed and was given a number.
    pub(crate) const fn owed(self) -> Option<Issue> {
        match self {
            Self::Issued(issue) => Some(issue),
            Self::Waiting | Self::Acknowledged { .. } => None,
        }
    }

    /// Whether it is kept for a checkpoint only.
    pub(crate) const fn is_acknowledged(self) -> bool {
        matches!(self, Self::Acknowledged { .. })
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Item {
    pub(crate) row: ItemRow,
    /// What is in memory of its payload; the journal has it otherwise.
    pub(crate) payload: Option<Bytes>,
    /// Its row goes, or went, to the journal with this batch.
    pub(crate) written_in: Ticket,
    /// The journal has not been told the payload.
    pub(crate) is_new: bool,
    /// A consumer's line holds it, and so memory has, or will have, its payload.
    pub(crate) is_in_line: bool,
    /// It has been sent in this life, or may have been in an earlier one.
    pub(crate) was_sent: bool,
}
