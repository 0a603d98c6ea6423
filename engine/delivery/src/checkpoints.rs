//! Acknowledgements, and the checkpoints that they are made under.

use std::ops::RangeInclusive;

use crate::{
    AcknowledgeError, CheckpointError, Number, Retention, Stage, delivery::Shared, item::Issue,
    job::Job,
};

impl Job {
    pub(crate) fn acknowledge(
        &mut self,
        ranges: &[RangeInclusive<u64>],
        checkpoint: Option<&str>,
        shared: &mut Shared,
    ) -> Result<(), AcknowledgeError> {
        let last = self.row.last_number;
        let mut acknowledged = Vec::new();
        for range in ranges.iter().filter(|range| !range.is_empty()) {
            let not_sent = AcknowledgeError::NotSent { range: range.clone(), last };
            if *range.end() > last {
                return Err(not_sent);
            }
            let numbers = Number(*range.start())..=Number(*range.end());
            for &sequence in self.issued.range(numbers).map(|(_, sequence)| sequence) {
                let Some(item) = self.items.get(&sequence) else { continue };
                if !item.was_sent {
                    return Err(not_sent);
                }
                if let Some(issue) = item.row.stage.owed() {
                    acknowledged.push((issue, sequence));
                }
            }
        }
        let checkpoint = self.checkpoint(checkpoint, acknowledged.is_empty(), shared)?;
        for (issue, sequence) in acknowledged {
            self.acknowledge_one(issue, sequence, checkpoint, shared);
        }
        Ok(())
    }

    fn acknowledge_one(
        &mut self,
        issue: Issue,
        sequence: u64,
        checkpoint: u64,
        shared: &mut Shared,
    ) {
        if let Some(consumer) = issue.rank.and_then(|rank| self.consumers.get_mut(&rank)) {
            consumer.forget(issue.number);
        }
        let Some(item) = self.items.get_mut(&sequence) else { return };
        item.is_in_line = false;
        // Who released it has spoken too early; it will not go to anybody else.
        if issue.rank.is_none()
            && let Some(place) = item.row.place
        {
            let entry = self.take_ready(place);
            for other in entry.sequences.into_iter().filter(|&other| other != sequence) {
                self.make_ready(other, place);
            }
        }
        match self.terms.retention {
            Retention::UntilAcknowledged => self.remove(sequence, shared),
            Retention::UntilDurable => {
                self.unload(sequence, shared);
                if let Some(item) = self.items.get_mut(&sequence) {
                    item.row.stage = Stage::Acknowledged { issue, checkpoint };
                    self.kept_items += 1;
                }
                self.touch(sequence, shared);
            }
        }
    }

    /// The number of the checkpoint that is named, or of the one that will be named next. Under an earlier
    /// one there can be nothing new, but what is known can be said again.
    fn checkpoint(
        &mut self,
        name: Option<&str>,
        is_known: bool,
        shared: &Shared,
    ) -> Result<u64, CheckpointError> {
        let next = self.row.checkpoints_durable + self.row.checkpoints.len() as u64;
        let Some(name) = name else { return Ok(next) };
        if self.terms.retention == Retention::UntilAcknowledged {
            return Err(CheckpointError::NotRetained);
        }
        let known = self.row.durable.iter().chain(&self.row.checkpoints);
        let last = known.clone().next_back();
        if !self.row.checkpoints.is_empty() && last.is_some_and(|last| last == name) {
            return Ok(next - 1);
        }
        if let (true, Some(last)) = (known.clone().any(|known| known == name), last) {
            if is_known {
                return Ok(next);
            }
            return Err(CheckpointError::OutOfOrder { name: name.to_owned(), last: last.clone() });
        }
        self.row.checkpoints.push(name.to_owned());
        self.touch_row(shared);
        Ok(next)
    }

    /// A checkpoint is safe: nothing that was acknowledged under it or an earlier one is kept.
    pub(crate) fn durable(
        &mut self,
        name: &str,
        shared: &mut Shared,
    ) -> Result<(), CheckpointError> {
        let below = self.kept_below(Some(name))?;
        let named = usize::try_from(below - self.row.checkpoints_durable).unwrap_or(usize::MAX);
        if named == 0 {
            return Ok(());
        }
        self.row.checkpoints.drain(..named);
        (self.row.checkpoints_durable, self.row.durable) = (below, Some(name.to_owned()));
        self.touch_row(shared);
        for sequence in self.acknowledged(|checkpoint| checkpoint < below) {
            self.remove(sequence, shared);
        }
        Ok(())
    }

    /// The trainer is back at a checkpoint (`None`: where it began): everything that was acknowledged
    /// later is owed again.
    pub(crate) fn rewind(
        &mut self,
        name: Option<&str>,
        shared: &mut Shared,
    ) -> Result<(), CheckpointError> {
        let below = self.kept_below(name)?;
        let kept = usize::try_from(below - self.row.checkpoints_durable).unwrap_or(usize::MAX);
        self.row.checkpoints.truncate(kept);
        self.touch_row(shared);
        for sequence in self.acknowledged(|checkpoint| checkpoint >= below) {
            if let Some(item) = self.items.get_mut(&sequence)
                && let Stage::Acknowledged { issue, .. } = item.row.stage
            {
                item.row.stage = Stage::Issued(issue);
                self.kept_items -= 1;
            }
            self.touch(sequence, shared);
        }
        self.wishes.clear();
        let ranks: Vec<u32> = self.consumers.keys().copied().collect();
        for rank in ranks {
            self.owe_again(rank, 0, shared);
        }
        Ok(())
    }

    /// One past the number of a checkpoint that can be gone back to.
    fn kept_below(&self, name: Option<&str>) -> Result<u64, CheckpointError> {
        let row = &self.row;
        if self.terms.retention == Retention::UntilAcknowledged {
            return Err(CheckpointError::NotRetained);
        }
        if row.durable.as_deref() == name {
            return Ok(row.checkpoints_durable);
        }
        let name = name.unwrap_or_default();
        row.checkpoints
            .iter()
            .position(|known| known == name)
            .map(|position| row.checkpoints_durable + position as u64 + 1)
            .ok_or_else(|| CheckpointError::Unknown(name.to_owned()))
    }

    fn acknowledged(&self, is_meant: impl Fn(u64) -> bool) -> Vec<u64> {
        let kept = self.items.iter().filter_map(|(&sequence, item)| match item.row.stage {
            Stage::Acknowledged { checkpoint, .. } => Some((sequence, checkpoint)),
            Stage::Waiting | Stage::Issued(_) => None,
        });
        kept.filter(|&(_, checkpoint)| is_meant(checkpoint)).map(|(sequence, _)| sequence).collect()
    }
}
