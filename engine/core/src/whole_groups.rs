//! Members of groups that wait for the others, for scorers that want to see whole groups.

use std::collections::{BTreeMap, BTreeSet};

use crate::JobOptions;

/// How the groups of a job are made up.
#[derive(Clone, Debug, Default)]
pub struct GroupPlan {
    /// Members of each.
    members: u32,
    /// With so many usable ones a group is complete.
    target: u32,
    /// Of the groups that an earlier run has begun: how many members it has recorded, and how many of
    /// them are usable.
    before: BTreeMap<u64, (u32, u32)>,
}

impl GroupPlan {
    /// As the core has it.
    #[must_use]
    pub fn of(job: &JobOptions) -> Self {
        let Some(group) = job.group else {
            return Self { members: 1, target: 1, ..Self::default() };
        };
        let count = |members: usize| u32::try_from(members).unwrap_or(u32::MAX);
        let open = job.recorded_groups.open.iter();
        let before = open.map(|(&group, members)| {
            let used = members.iter().filter(|member| member.used).count();
            (group, (count(members.len()), count(used)))
        });
        Self { members: group.members(), target: group.target(), before: before.collect() }
    }
}

/// Keeps what is to be scored until its group is there: all members that will come, or as many as make
/// the group complete. Every member comes or is recorded, so that a group waits no longer than its
/// slowest member takes, and no bound on the time is needed.
///
/// For whoever hands episodes to such a scorer ([`Scoring::External`](crate::Scoring::External)): what comes
/// out of one call is to be scored in one batch. It is told of each record of the job, after what is to be
/// scored.
#[derive(Debug)]
pub struct WholeGroups<T> {
    plan: GroupPlan,
    open: BTreeMap<u64, Group<T>>,
}

#[derive(Debug)]
struct Group<T> {
    /// Who waits for the others, by trajectory.
    here: BTreeMap<String, T>,
    /// Who has gone on to the scorer.
    sent: BTreeSet<String>,
    /// Recorded members.
    recorded: u32,
    /// Recorded without having been sent: they do not come.
    gone: u32,
    /// Of those sent, recorded without a score that counts.
    unusable: u32,
    /// Usable members that were recorded by an earlier run.
    used_before: u32,
}

impl<T> WholeGroups<T> {
    /// Nobody is there.
    #[must_use]
    pub const fn new(plan: GroupPlan) -> Self {
        Self { plan, open: BTreeMap::new() }
    }

    /// A member is to be scored: those that may be scored now, by trajectory.
    pub fn came(&mut self, group: u64, trajectory: &str, it: T) -> Vec<T> {
        self.group(group).here.insert(trajectory.to_owned(), it);
        self.ready(group)
    }

    /// A member is recorded; `is_usable` as the group's record will say it: those that may be scored now.
    pub fn recorded(&mut self, group: u64, trajectory: &str, is_usable: bool) -> Vec<T> {
        let state = self.group(group);
        state.recorded += 1;
        if !state.sent.contains(trajectory) {
            state.here.remove(trajectory);
            state.gone += 1;
        } else if !is_usable {
            state.unusable += 1;
        }
        if state.recorded >= self.plan.members {
            self.open.remove(&group);
            self.plan.before.remove(&group);
            return Vec::new();
        }
        self.ready(group)
    }

    /// Groups of which something came and that are not recorded as a whole.
    #[must_use]
    pub fn open(&self) -> usize {
        self.open.len()
    }

    fn group(&mut self, group: u64) -> &mut Group<T> {
        let before = &self.plan.before;
        self.open.entry(group).or_insert_with(|| {
            let (recorded, used_before) = before.get(&group).copied().unwrap_or_default();
            Group {
                here: BTreeMap::new(),
                sent: BTreeSet::new(),
                recorded,
                gone: recorded,
                unusable: 0,
                used_before,
            }
        })
    }

    fn ready(&mut self, group: u64) -> Vec<T> {
        let GroupPlan { members, target, .. } = self.plan;
        let state = self.group(group);
        let played = state.here.len() as u64 + state.sent.len() as u64;
        let usable = (played + u64::from(state.used_before)).saturating_sub(state.unusable.into());
        let is_there = usable >= target.into() || played + u64::from(state.gone) >= members.into();
        if !is_there {
            return Vec::new();
        }
        let here = std::mem::take(&mut state.here);
        let (sent, ready): (Vec<_>, Vec<_>) = here.into_iter().unzip();
        state.sent.extend(sent);
        ready
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn groups(members: u32, target: u32) -> WholeGroups<u32> {
        WholeGroups::new(GroupPlan { members, target, ..GroupPlan::default() })
    }

    #[test]
    fn a_group_goes_when_all_are_there() {
        let mut groups = groups(3, 3);
        assert!(groups.came(7, "c", 3).is_empty());
        assert!(groups.came(8, "x", 9).is_empty());
        assert!(groups.came(7, "a", 1).is_empty());
        assert_eq!(groups.came(7, "b", 2), [1, 2, 3], "in the order of their names");
        for name in ["a", "b", "c"] {
            assert!(groups.recorded(7, name, true).is_empty());
        }
        assert_eq!(groups.open.keys().collect::<Vec<_>>(), [&8], "what is over takes no room");
    }

    #[test]
    fn who_will_not_come_is_not_waited_for() {
        let mut first = groups(3, 3);
        assert!(first.came(0, "a", 1).is_empty());
        assert!(first.recorded(0, "b", false).is_empty());
        assert_eq!(first.recorded(0, "c", false), [1]);
        let mut cancelled = groups(2, 2);
        assert!(cancelled.came(0, "a", 1).is_empty());
        assert!(cancelled.recorded(0, "a", false).is_empty(), "itself");
        assert_eq!(cancelled.came(0, "b", 2), [2]);
    }

    #[test]
    fn enough_for_a_group_are_enough() {
        let mut groups = groups(4, 2);
        assert!(groups.came(0, "a", 1).is_empty());
        assert_eq!(groups.came(0, "b", 2), [1, 2]);
        assert!(groups.recorded(0, "a", true).is_empty());
        // Its score failed: another one has to come, and is the last one needed.
        assert!(groups.recorded(0, "b", false).is_empty());
        assert_eq!(groups.came(0, "c", 3), [3]);
    }

    #[test]
    fn what_an_earlier_run_has_recorded_counts() {
        let before = [(0, (2, 1))].into();
        let mut groups = WholeGroups::new(GroupPlan { members: 4, target: 4, before });
        assert!(groups.came(0, "c", 3).is_empty());
        assert_eq!(groups.came(0, "d", 4), [3, 4]);
        assert!(groups.recorded(0, "c", true).is_empty());
        assert!(groups.recorded(0, "d", true).is_empty());
        assert!(groups.open.is_empty());
    }

    #[test]
    fn one_without_a_group_is_its_own() {
        let mut groups = WholeGroups::new(GroupPlan::of(&JobOptions::default()));
        assert_eq!(groups.came(5, "a", 1), [1]);
    }
}
