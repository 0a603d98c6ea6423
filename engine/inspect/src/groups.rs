//! Groups, as far as records alone tell of them.

use std::collections::HashMap;

use envmill_protocol::{
    Trajectory,
    record::{End, observation_hash},
};

/// So many groups are looked at (about 100 bytes each).
const GROUPS_MAX: usize = 1 << 20;

/// What groups of episodes come to. An episode without a group is one of a single member, and does not
/// count as a group.
#[derive(Clone, Debug, Default)]
pub struct Groups {
    /// By the job's number in `jobs` and the group's own.
    seen: HashMap<(u32, u64), Group>,
    jobs: HashMap<String, u32>,
    left_out: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Group {
    members: u32,
    /// Members that completed or were truncated, or were filtered after that, and have a reward.
    scored: u32,
    least: f64,
    most: f64,
    first_observation: Option<u64>,
    begins_differently: bool,
}

impl Groups {
    /// Takes a record into account.
    pub fn add(&mut self, record: &Trajectory) {
        let next = u32::try_from(self.jobs.len()).unwrap_or(u32::MAX);
        let job = match self.jobs.get(&record.job_id) {
            Some(&job) => job,
            None => *self.jobs.entry(record.job_id.clone()).or_insert(next),
        };
        let key = (job, record.group_id);
        if self.seen.len() >= GROUPS_MAX && !self.seen.contains_key(&key) {
            self.left_out += 1;
            return;
        }
        let group = self.seen.entry(key).or_default();
        group.members += 1;
        let is_usable =
            matches!(record.end, End::Completed { .. } | End::Truncated(_) | End::Filtered(_));
        if let Some(reward) = record.reward.filter(|reward| is_usable && reward.is_finite()) {
            let is_first = group.scored == 0;
            group.least = if is_first { reward } else { group.least.min(reward) };
            group.most = if is_first { reward } else { group.most.max(reward) };
            group.scored += 1;
        }
        if let Some(reset) = &record.reset {
            let hash = observation_hash(&reset.observation);
            let before = *group.first_observation.get_or_insert(hash);
            group.begins_differently |= before != hash;
        }
    }

    fn groups(&self) -> impl Iterator<Item = &Group> {
        self.seen.values().filter(|group| group.members > 1)
    }

    /// How many groups of more than one member there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.groups().count() as u64
    }

    /// The members of the smallest and of the largest; zeros without groups.
    #[must_use]
    pub fn sizes(&self) -> (u32, u32) {
        let least = self.groups().map(|group| group.members).min().unwrap_or(0);
        (least, self.groups().map(|group| group.members).max().unwrap_or(0))
    }

    /// Groups with two or more usable members that have a reward.
    #[must_use]
    pub fn scored(&self) -> u64 {
        self.groups().filter(|group| group.scored > 1).count() as u64
    }

    /// Those of them in which all rewards are the same, so that there is nothing to learn from.
    #[must_use]
    pub fn zero_variance(&self) -> u64 {
        let is_flat = |group: &&Group| group.scored > 1 && group.least >= group.most;
        self.groups().filter(is_flat).count() as u64
    }

    /// Groups whose members began differently, though their seed is the same.
    #[must_use]
    pub fn begin_differently(&self) -> u64 {
        self.groups().filter(|group| group.begins_differently).count() as u64
    }

    /// Records of groups for which there was no more room.
    #[must_use]
    pub const fn left_out(&self) -> u64 {
        self.left_out
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::changed;

    #[test]
    fn groups_are_judged_by_their_usable_members() {
        let mut groups = Groups::default();
        for (group, reward, end, text) in [
            (0, json!(1.0), "completed", "a"),
            (0, json!(1.0), "completed", "a"),
            (1, json!(1.0), "completed", "a"),
            (1, json!(0.5), "completed", "b"),
            (2, json!(1.0), "completed", "a"),
            (2, json!(null), "completed", "a"),
            (3, json!(1.0), "completed", "a"),
            (4, json!(1.0), "completed", "a"),
            (4, json!(1.0), "completed", "a"),
            (4, json!(0.0), "cancelled", "a"),
        ] {
            groups.add(&changed(|it| {
                it["group_id"] = json!(group);
                it["reward"] = reward;
                let cause = if end == "completed" { "terminated" } else { "cut" };
                it["end"] = json!({"kind": end, "cause": cause});
                it["reset"]["observation"]["text"] = json!(text);
            }));
        }
        assert_eq!((groups.count(), groups.sizes()), (4, (2, 3)));
        assert_eq!((groups.scored(), groups.zero_variance()), (3, 2));
        assert_eq!(groups.begin_differently(), 1);
    }
}
