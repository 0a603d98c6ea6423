//! Batches for consumers that train together: each gets its own groups of a batch, or none gets any.

use crate::{
    BatchError, ConsumerId, Order, Verdict,
    consumer::InLine,
    delivery::Shared,
    item::{Issue, Stage},
    job::Job,
};

impl Job {
    /// A consumer wants a batch: the next one, or again an earlier one.
    pub(crate) fn want(
        &mut self,
        consumer: ConsumerId,
        index: u64,
        groups: u64,
        shared: &mut Shared,
    ) -> Result<(), BatchError> {
        let Order::Batches { world } = self.terms.order else {
            return Err(BatchError::NotInBatches);
        };
        let rank = self.rank_of(consumer).ok_or(BatchError::NotAttached)?;
        if groups == 0 || !groups.is_multiple_of(u64::from(world)) {
            return Err(BatchError::Indivisible { groups, world });
        }
        let next = self.row.next_batch;
        if index > next {
            return Err(BatchError::Skipped { index, next });
        }
        if index < next {
            self.line_up_share(rank, index, false, shared);
            return Ok(());
        }
        let others =
            self.wishes.iter().find(|(other, wanted)| **other != rank && **wanted != groups);
        if let Some((_, &others)) = others {
            return Err(BatchError::Differs { groups, others });
        }
        self.wishes.insert(rank, groups);
        Ok(())
    }

    /// A consumer will not come back for its share of a batch: others get it in later ones.
    pub(crate) fn release_share(
        &mut self,
        index: u64,
        rank: u32,
        shared: &Shared,
    ) -> Result<(), BatchError> {
        if self.row.has_told_end {
            return Err(BatchError::Ended);
        }
        let share = self.share(rank, index);
        if share.is_empty() {
            return Err(BatchError::NoShare { index, rank });
        }
        for (issue, sequence) in share {
            if let Some(consumer) = self.consumers.get_mut(&rank) {
                consumer.forget(issue.number);
            }
            let Some(item) = self.items.get_mut(&sequence) else { continue };
            item.is_in_line = false;
            item.row.stage = Stage::Issued(Issue { rank: None, batch: None, ..issue });
            let place = item.row.place.unwrap_or_default();
            self.touch(sequence, shared);
            self.make_ready(sequence, place);
        }
        Ok(())
    }

    pub(crate) fn pump_batches(&mut self, world: u32, shared: &mut Shared) {
        if self.consumers.contains_key(&0) {
            self.give_the_rest(shared);
        }
        if let Some(&groups) = self.wishes.values().next() {
            let has_all = self.wishes.len() == world as usize;
            let usable: Vec<u64> =
                self.usable().take(usize::try_from(groups).unwrap_or(usize::MAX)).collect();
            let is_short = (usable.len() as u64) < groups;
            if self.row.has_ended && usable.is_empty() {
                self.say_that_it_ended(shared);
            } else if has_all && (!is_short || self.row.has_ended) {
                self.form(world, &usable, is_short, shared);
            }
        }
        // What is in no batch waits for no wish.
        let ranks: Vec<u32> = self.consumers.keys().copied().collect();
        for rank in ranks {
            while let Some(number) =
                self.consumers.get_mut(&rank).and_then(|consumer| consumer.unsent.pop_first())
            {
                self.line_up(rank, number, shared);
            }
        }
    }

    /// What no batch can use goes to rank 0: groups without anything to train on, stale ones, and
    /// when all else is gone, the job's end.
    fn give_the_rest(&mut self, shared: &mut Shared) {
        let places: Vec<u64> = self.ready.keys().copied().collect();
        for place in places {
            let Some(entry) = self.ready.get(&place) else { continue };
            let verdict = self.judge(entry);
            let is_end = self.row.has_ended && place + 1 == self.row.next_place;
            let goes = if is_end {
                self.ready.len() == 1
            } else {
                !entry.is_usable || verdict != Verdict::Fresh
            };
            if goes {
                let entry = self.take_ready(place);
                self.issue(&entry, verdict, 0, None, shared);
            }
        }
    }

    fn usable(&self) -> impl Iterator<Item = u64> {
        let fresh = |entry| self.judge(entry) == Verdict::Fresh;
        self.ready
            .iter()
            .filter(move |(_, entry)| entry.is_usable && fresh(entry))
            .map(|(&place, _)| place)
    }

    fn form(&mut self, world: u32, places: &[u64], is_short: bool, shared: &mut Shared) {
        let index = self.row.next_batch;
        self.row.next_batch += 1;
        self.wishes.clear();
        // Ranks with smaller numbers get one more where it does not come out even.
        let (each, more) = (places.len() / world as usize, places.len() % world as usize);
        let mut places = places.iter();
        for rank in 0..world {
            let share = each + usize::from((rank as usize) < more);
            for &place in places.by_ref().take(share) {
                let entry = self.take_ready(place);
                self.issue(&entry, Verdict::Fresh, rank, Some(index), shared);
            }
        }
        self.touch_row(shared);
        for rank in 0..world {
            self.line_up_share(rank, index, is_short, shared);
        }
    }

    /// Lines up what a rank has not acknowledged of a batch, after a word on how much it is.
    fn line_up_share(&mut self, rank: u32, index: u64, is_short: bool, shared: &mut Shared) {
        let share = self.share(rank, index);
        let Some(consumer) = self.consumers.get_mut(&rank) else { return };
        for (issue, _) in &share {
            consumer.forget(issue.number);
        }
        let after = self.touched_in;
        consumer.line.push_back(InLine::Batch {
            index,
            items: share.len() as u64,
            is_short,
            after,
        });
        for (issue, _) in share {
            self.line_up(rank, issue.number, shared);
        }
    }

    fn say_that_it_ended(&mut self, shared: &Shared) {
        if !self.row.has_told_end {
            self.row.has_told_end = true;
            self.touch_row(shared);
        }
        let after = self.touched_in;
        for rank in std::mem::take(&mut self.wishes).into_keys() {
            if let Some(consumer) = self.consumers.get_mut(&rank) {
                consumer.line.push_back(InLine::NoMoreBatches { after });
            }
        }
    }

    /// What a rank has not acknowledged of a batch, by number.
    fn share(&self, rank: u32, index: u64) -> Vec<(Issue, u64)> {
        let owed = self.issued.values().filter_map(|&sequence| {
            self.items.get(&sequence)?.row.stage.owed().map(|issue| (issue, sequence))
        });
        owed.filter(|(issue, _)| issue.rank == Some(rank) && issue.batch == Some(index)).collect()
    }
}
