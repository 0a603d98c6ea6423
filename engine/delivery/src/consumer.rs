//! A trainer's stream, and what it may still be sent.

use std::collections::{BTreeSet, VecDeque};

use crate::{ConsumerId, Number, Ticket};

#[derive(Clone, Debug)]
pub(crate) struct Consumer {
    pub(crate) id: ConsumerId,
    pub(crate) credit: Credit,
    /// What is owed to it and has not been put into the line.
    pub(crate) unsent: BTreeSet<Number>,
    /// What goes next, in order: each waits for the journal and for its bytes.
    pub(crate) line: VecDeque<InLine>,
    /// Bytes in its line, and those that were sent and have not been taken.
    pub(crate) window: u64,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum InLine {
    Item {
        number: Number,
        sequence: u64,
        bytes: u64,
        /// The batch of changes that has to be on disk first.
        after: Ticket,
    },
    Batch {
        index: u64,
        items: u64,
        is_short: bool,
        after: Ticket,
    },
    NoMoreBatches {
        after: Ticket,
    },
}

impl InLine {
    pub(crate) const fn after(self) -> Ticket {
        match self {
            Self::Item { after, .. }
            | Self::Batch { after, .. }
            | Self::NoMoreBatches { after } => after,
        }
    }

    pub(crate) const fn bytes(self) -> u64 {
        match self {
            Self::Item { bytes, .. } => bytes,
            Self::Batch { .. } | Self::NoMoreBatches { .. } => 0,
        }
    }
}

impl Consumer {
    pub(crate) const fn new(id: ConsumerId, credit: Credit) -> Self {
        Self { id, credit, unsent: BTreeSet::new(), line: VecDeque::new(), window: 0 }
    }

    /// It was acknowledged: nothing of it needs to be sent.
    pub(crate) fn forget(&mut self, acknowledged: Number) {
        self.unsent.remove(&acknowledged);
        let window = &mut self.window;
        self.line.retain(|waiting| match waiting {
            InLine::Item { number, bytes, .. } if *number == acknowledged => {
                *window = window.saturating_sub(*bytes);
                false
            }
            _ => true,
        });
    }
}

/// How much a consumer may be sent.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Credit {
    /// As granted. The last item may be larger than what is left, or nothing large would ever go.
    Granted { items: u64, bytes: i64 },
    /// It asks for batches instead.
    Unbounded,
}

impl Credit {
    pub(crate) const NONE: Self = Self::Granted { items: 0, bytes: 0 };

    pub(crate) const fn is_open(self) -> bool {
        match self {
            Self::Granted { items, bytes } => items > 0 && bytes > 0,
            Self::Unbounded => true,
        }
    }

    pub(crate) fn grant(&mut self, more_items: u64, more_bytes: u64) {
        if let Self::Granted { items, bytes } = self {
            *items = items.saturating_add(more_items);
            *bytes = bytes.saturating_add_unsigned(more_bytes);
        }
    }

    pub(crate) fn take(&mut self, used: u64) {
        if let Self::Granted { items, bytes } = self {
            *items = items.saturating_sub(1);
            *bytes = bytes.saturating_sub_unsigned(used);
        }
    }
}
