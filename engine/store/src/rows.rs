//! How rows look on disk: MessagePack with the names of fields, so that later versions can add some.
//!
//! The twins here are not the types of `envmill_delivery`: those may change, and what was written
//! has to be read for ever.

use envmill_delivery::{
    Issue, ItemRow, JobRow, Kind, Number, Order, Retention, Stage, Terms, Verdict, Version,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::OpenError;

/// Something that is kept as bytes.
pub(crate) trait Row: Sized {
    type Twin: Serialize + DeserializeOwned;

    fn twin(&self) -> Self::Twin;

    /// `None` where the twin has a code that this version does not know.
    fn from_twin(twin: Self::Twin) -> Option<Self>;

    fn encode(&self) -> Vec<u8> {
        // Writing to memory what has only numbers and texts does not fail.
        rmp_serde::to_vec_named(&self.twin()).unwrap_or_default()
    }

    fn decode(bytes: &[u8]) -> Result<Self, OpenError> {
        let twin = rmp_serde::from_slice(bytes).map_err(OpenError::damaged)?;
        Self::from_twin(twin).ok_or_else(|| OpenError::damaged("a code that is not known"))
    }
}

pub(crate) const fn kind_code(kind: Kind) -> u8 {
    kind as u8
}

pub(crate) fn kind_of(code: u8) -> Option<Kind> {
    Kind::ALL.get(usize::from(code)).copied()
}

#[derive(Clone, Copy, Serialize, Deserialize)]
pub(crate) struct VersionTwin {
    lineage: u32,
    step: u64,
}

impl From<Version> for VersionTwin {
    fn from(Version { lineage, step }: Version) -> Self {
        Self { lineage, step }
    }
}

impl From<VersionTwin> for Version {
    fn from(VersionTwin { lineage, step }: VersionTwin) -> Self {
        Self { lineage, step }
    }
}

#[derive(Serialize, Deserialize)]
pub(crate) struct TermsTwin {
    /// 0: as finished, 1: by group, 2: batches.
    order: u8,
    world: u32,
    staleness_max: Option<u64>,
    /// 0: until acknowledged, 1: until durable.
    retention: u8,
    waiting_items_max: u64,
    waiting_bytes_max: u64,
}

impl Row for Terms {
    type Twin = TermsTwin;

    fn twin(&self) -> TermsTwin {
        let (order, world) = match self.order {
            Order::AsFinished => (0, 1),
            Order::ByGroup => (1, 1),
            Order::Batches { world } => (2, world),
        };
        TermsTwin {
            order,
            world,
            staleness_max: self.staleness_max,
            retention: match self.retention {
                Retention::UntilAcknowledged => 0,
                Retention::UntilDurable => 1,
            },
            waiting_items_max: self.waiting_items_max,
            waiting_bytes_max: self.waiting_bytes_max,
        }
    }

    fn from_twin(twin: TermsTwin) -> Option<Self> {
        Some(Self {
            order: match twin.order {
                0 => Order::AsFinished,
                1 => Order::ByGroup,
                2 => Order::Batches { world: twin.world },
                _ => return None,
            },
            staleness_max: twin.staleness_max,
            retention: match twin.retention {
                0 => Retention::UntilAcknowledged,
                1 => Retention::UntilDurable,
                _ => return None,
            },
            waiting_items_max: twin.waiting_items_max,
            waiting_bytes_max: twin.waiting_bytes_max,
        })
    }
}

#[derive(Serialize, Deserialize)]
pub(crate) struct JobTwin {
    next_sequence: u64,
    next_place: u64,
    last_number: u64,
    next_batch: u64,
    version: VersionTwin,
    checkpoints_durable: u64,
    durable: Option<String>,
    checkpoints: Vec<String>,
    has_ended: bool,
    has_told_end: bool,
}

impl Row for JobRow {
    type Twin = JobTwin;

    fn twin(&self) -> JobTwin {
        JobTwin {
            next_sequence: self.next_sequence,
            next_place: self.next_place,
            last_number: self.last_number,
            next_batch: self.next_batch,
            version: self.version.into(),
            checkpoints_durable: self.checkpoints_durable,
            durable: self.durable.clone(),
            checkpoints: self.checkpoints.clone(),
            has_ended: self.has_ended,
            has_told_end: self.has_told_end,
        }
    }

    fn from_twin(twin: JobTwin) -> Option<Self> {
        Some(Self {
            next_sequence: twin.next_sequence,
            next_place: twin.next_place,
            last_number: twin.last_number,
            next_batch: twin.next_batch,
            version: twin.version.into(),
            checkpoints_durable: twin.checkpoints_durable,
            durable: twin.durable,
            checkpoints: twin.checkpoints,
            has_ended: twin.has_ended,
            has_told_end: twin.has_told_end,
        })
    }
}

#[derive(Serialize, Deserialize)]
pub(crate) struct ItemTwin {
    id: u64,
    kind: u8,
    group: u64,
    version: VersionTwin,
    bytes: u64,
    place: Option<u64>,
    is_usable: bool,
    /// `None`: waiting.
    issue: Option<IssueTwin>,
    /// Acknowledged under it.
    checkpoint: Option<u64>,
}

#[derive(Serialize, Deserialize)]
struct IssueTwin {
    number: u64,
    is_stale: bool,
    judged_at: VersionTwin,
    rank: Option<u32>,
    batch: Option<u64>,
}

impl Row for ItemRow {
    type Twin = ItemTwin;

    fn twin(&self) -> ItemTwin {
        let (issue, checkpoint) = match self.stage {
            Stage::Waiting => (None, None),
            Stage::Issued(issue) => (Some(issue), None),
            Stage::Acknowledged { issue, checkpoint } => (Some(issue), Some(checkpoint)),
        };
        ItemTwin {
            id: self.id,
            kind: kind_code(self.kind),
            group: self.group,
            version: self.version.into(),
            bytes: self.bytes,
            place: self.place,
            is_usable: self.is_usable,
            issue: issue.map(|issue| IssueTwin {
                number: issue.number.0,
                is_stale: issue.verdict == Verdict::Stale,
                judged_at: issue.judged_at.into(),
                rank: issue.rank,
                batch: issue.batch,
            }),
            checkpoint,
        }
    }

    fn from_twin(twin: ItemTwin) -> Option<Self> {
        let issue = twin.issue.map(|issue| Issue {
            number: Number(issue.number),
            verdict: if issue.is_stale { Verdict::Stale } else { Verdict::Fresh },
            judged_at: issue.judged_at.into(),
            rank: issue.rank,
            batch: issue.batch,
        });
        Some(Self {
            id: twin.id,
            kind: kind_of(twin.kind)?,
            group: twin.group,
            version: twin.version.into(),
            bytes: twin.bytes,
            place: twin.place,
            is_usable: twin.is_usable,
            stage: match (issue, twin.checkpoint) {
                (None, None) => Stage::Waiting,
                (Some(issue), None) => Stage::Issued(issue),
                (Some(issue), Some(checkpoint)) => Stage::Acknowledged { issue, checkpoint },
                (None, Some(_)) => return None,
            },
        })
    }
}
