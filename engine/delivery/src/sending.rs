//! What goes to whom, and when.

use crate::{
    AttachError, ConsumerId, Content, Kind, Number, Order, Output, Sent, Stage, Version,
    consumer::{Consumer, Credit, InLine},
    delivery::Shared,
    item::{Issue, Verdict},
    job::{Entry, Job},
};

impl Job {
    pub(crate) fn attach(
        &mut self,
        rank: u32,
        id: ConsumerId,
        cursor: u64,
        shared: &mut Shared,
    ) -> Result<(), AttachError> {
        let (world, credit) = match self.terms.order {
            Order::AsFinished | Order::ByGroup => (1, Credit::NONE),
            Order::Batches { world } => (world, Credit::Unbounded),
        };
        if rank >= world {
            return Err(AttachError::Rank { rank, world });
        }
        if cursor > self.row.last_number {
            return Err(AttachError::Cursor { cursor, last: self.row.last_number });
        }
        if let Some(replaced) = self.consumers.get(&rank).map(|consumer| consumer.id) {
            self.detach(replaced, shared);
            shared.outputs.push(Output::Replaced(replaced));
        }
        self.consumers.insert(rank, Consumer::new(id, credit));
        self.owe_again(rank, cursor, shared);
        Ok(())
    }

    /// Whether it was attached.
    pub(crate) fn detach(&mut self, id: ConsumerId, shared: &mut Shared) -> bool {
        let Some(rank) = self.rank_of(id) else { return false };
        self.wishes.remove(&rank);
        self.clear_line(rank, shared);
        self.consumers.remove(&rank).is_some()
    }

    /// Nothing of what was about to be sent is. Its turn may come much later, and the journal has it.
    fn clear_line(&mut self, rank: u32, shared: &mut Shared) {
        let Some(consumer) = self.consumers.get_mut(&rank) else { return };
        let line = std::mem::take(&mut consumer.line);
        let bytes: u64 = line.iter().map(|waiting| waiting.bytes()).sum();
        consumer.window = consumer.window.saturating_sub(bytes);
        for waiting in line {
            let InLine::Item { sequence, after, .. } = waiting else { continue };
            if let Some(item) = self.items.get_mut(&sequence) {
                item.is_in_line = false;
            }
            if after <= shared.committed {
                self.unload(sequence, shared);
            }
        }
    }

    pub(crate) fn rank_of(&self, id: ConsumerId) -> Option<u32> {
        self.consumers.iter().find(|(_, consumer)| consumer.id == id).map(|(&rank, _)| rank)
    }

    /// A consumer is owed again all that it has not acknowledged after `cursor`; of batches, once it
    /// asks for them.
    pub(crate) fn owe_again(&mut self, rank: u32, cursor: u64, shared: &mut Shared) {
        self.clear_line(rank, shared);
        let Some(consumer) = self.consumers.get_mut(&rank) else { return };
        consumer.unsent.clear();
        for (&number, sequence) in self.issued.range(Number(cursor.saturating_add(1))..) {
            let issue = self.items.get(sequence).and_then(|item| item.row.stage.owed());
            if issue.is_some_and(|issue| issue.rank == Some(rank) && issue.batch.is_none()) {
                consumer.unsent.insert(number);
            }
        }
    }

    /// Gives numbers to what may go, lines it up, and sends what is in the journal.
    pub(crate) fn pump(&mut self, shared: &mut Shared) {
        match self.terms.order {
            Order::AsFinished | Order::ByGroup => self.pump_stream(shared),
            Order::Batches { world } => self.pump_batches(world, shared),
        }
        self.send(shared);
        self.tell(shared);
    }

    fn pump_stream(&mut self, shared: &mut Shared) {
        while let Some(consumer) = self.consumers.get_mut(&0)
            && consumer.credit.is_open()
            && consumer.window < shared.options.window_bytes
        {
            if let Some(number) = consumer.unsent.pop_first() {
                self.line_up(0, number, shared);
            } else if let Some(&place) = self.ready.keys().next() {
                let entry = self.take_ready(place);
                let verdict = self.judge(&entry);
                self.issue(&entry, verdict, 0, None, shared);
            } else {
                break;
            }
        }
    }

    /// Whether what goes together is as new as the job asks.
    pub(crate) fn judge(&self, entry: &Entry) -> Verdict {
        let current = self.row.version;
        let items = entry.sequences.iter().filter_map(|sequence| self.items.get(sequence));
        let is_stale = items
            .filter(|item| item.row.kind == Kind::Trajectory && item.row.stage == Stage::Waiting)
            .any(|item| is_stale(item.row.version, current, self.terms.staleness_max));
        if is_stale { Verdict::Stale } else { Verdict::Fresh }
    }

    /// Gives an entry's items to a consumer. What has a number and a verdict keeps them.
    pub(crate) fn issue(
        &mut self,
        entry: &Entry,
        verdict: Verdict,
        rank: u32,
        batch: Option<u64>,
        shared: &mut Shared,
    ) {
        for &sequence in &entry.sequences {
            let Some(item) = self.items.get_mut(&sequence) else { continue };
            let issue = match item.row.stage {
                Stage::Issued(issue) | Stage::Acknowledged { issue, .. } => {
                    Issue { rank: Some(rank), batch, ..issue }
                }
                Stage::Waiting => {
                    self.row.last_number += 1;
                    let number = Number(self.row.last_number);
                    // Groups and ends are told whatever became of their trajectories.
                    let verdict =
                        if item.row.kind == Kind::Trajectory { verdict } else { Verdict::Fresh };
                    self.issued.insert(number, sequence);
                    let judged_at = self.row.version;
                    Issue { number, verdict, judged_at, rank: Some(rank), batch }
                }
            };
            self.kept_items -= u64::from(item.row.stage.is_acknowledged());
            item.row.stage = Stage::Issued(issue);
            if issue.verdict != Verdict::Fresh {
                self.drop_payload(sequence, shared);
            }
            self.touch(sequence, shared);
            if let Some(consumer) = self.consumers.get_mut(&rank) {
                consumer.unsent.insert(issue.number);
            }
        }
    }

    /// Puts an item at the end of a consumer's line.
    pub(crate) fn line_up(&mut self, rank: u32, number: Number, shared: &mut Shared) {
        let Some(&sequence) = self.issued.get(&number) else { return };
        let Some(item) = self.items.get_mut(&sequence) else { return };
        let Some(issue) = item.row.stage.owed() else { return };
        let Some(consumer) = self.consumers.get_mut(&rank) else { return };
        item.is_in_line = true;
        let bytes = item.bytes_sent(issue.verdict);
        consumer.credit.take(bytes);
        consumer.window += bytes;
        consumer.line.push_back(InLine::Item { number, sequence, bytes, after: item.written_in });
        if item.payload.is_none() && issue.verdict == Verdict::Fresh {
            shared.outputs.push(Output::Load { job: self.key, sequence });
        }
    }

    /// Sends what stands at the head of each line and is in the journal and in memory.
    fn send(&mut self, shared: &mut Shared) {
        let Self { consumers, items, key, .. } = self;
        for consumer in consumers.values_mut() {
            while let Some(&next) = consumer.line.front()
                && next.after() <= shared.committed
            {
                let id = consumer.id;
                let item = match next {
                    InLine::Batch { index, items, is_short, .. } => {
                        let told = Output::Batch { consumer: id, index, items, is_short };
                        shared.outputs.push(told);
                        None
                    }
                    InLine::NoMoreBatches { .. } => {
                        shared.outputs.push(Output::NoMoreBatches(id));
                        None
                    }
                    InLine::Item { sequence, .. } => items.get_mut(&sequence),
                };
                if let Some(item) = item
                    && let Some(issue) = item.row.stage.owed()
                {
                    let content = match (issue.verdict, &item.payload) {
                        (Verdict::Stale, _) => Content::Stale,
                        (Verdict::Fresh, Some(payload)) => Content::Payload(payload.clone()),
                        (Verdict::Fresh, None) => break,
                    };
                    item.is_in_line = false;
                    if let Some(sent) = item.payload.take() {
                        shared.resident_bytes -= sent.len() as u64;
                    }
                    shared.outputs.push(Output::Send(Sent {
                        consumer: id,
                        job: *key,
                        number: issue.number,
                        id: item.row.id,
                        kind: item.row.kind,
                        group: item.row.group,
                        version: item.row.version,
                        judged_at: issue.judged_at,
                        bytes: item.bytes_sent(issue.verdict),
                        is_redelivered: std::mem::replace(&mut item.was_sent, true),
                        content,
                    }));
                }
                consumer.line.pop_front();
            }
        }
    }
}

fn is_stale(made_on: Version, current: Version, staleness_max: Option<u64>) -> bool {
    made_on.lineage != current.lineage
        || staleness_max.is_some_and(|most| current.step.saturating_sub(made_on.step) > most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_old_is_stale() {
        let version = |lineage, step| Version { lineage, step };
        assert!(!is_stale(version(0, 5), version(0, 7), Some(2)));
        assert!(is_stale(version(0, 5), version(0, 8), Some(2)));
        assert!(!is_stale(version(0, 5), version(0, 800), None));
        assert!(!is_stale(version(0, 9), version(0, 8), Some(0)));
        assert!(is_stale(version(0, 9), version(1, 9), None));
    }
}
