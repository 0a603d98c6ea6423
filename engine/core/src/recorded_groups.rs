//! What an earlier run of a job with groups has left, and how the job goes on from there.
//!
//! A group that has its own record is over. One that has not is taken up with the members that have
//! theirs: they count as if they had just ended, and only the others are played. What a kill took
//! from a group are its members under way and those that waited, scored, for its filter.

use std::{collections::BTreeMap, sync::Arc};

use envmill_protocol::{
    EpisodeIndex, Trajectory,
    record::{Cancellation, End, MemberRecord},
};

use crate::{Core, Outputs, Time, alarms::Alarm, group_end::member, groups::Group, job::Job};

/// What an earlier run of a job with groups has left, beside the set of recorded members
/// ([`JobOptions::recorded`](crate::JobOptions::recorded)).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RecordedGroups {
    /// The groups whose record says that a filter dropped them, in the order of their records: others
    /// were started in place of the first of them.
    pub filtered: Vec<u64>,
    /// The recorded members of the groups that have no record of their own.
    pub open: BTreeMap<u64, Vec<MemberRecord>>,
}

/// The member of a group that a record is of. Tokens of attempts before the last are not in it and
/// read 0.
#[must_use]
pub fn recorded_member(trajectory: &Trajectory) -> MemberRecord {
    let first = trajectory.reset.as_ref();
    let first = first.map(|reset| envmill_protocol::record::observation_hash(&reset.observation));
    let mut tokens = vec![0; trajectory.attempts.len()];
    if let Some(last) = tokens.last_mut() {
        *last = trajectory.generations.iter().map(|it| it.token_ids.len() as u64).sum();
    }
    member(trajectory, first, tokens)
}

impl Job {
    /// Takes up the refills that an earlier run has begun, and all groups: how many episodes are left.
    pub(crate) fn take_all_up(&mut self, now: Time) -> u64 {
        let Some(options) = self.options.group else {
            let all = self.options.episodes;
            return all - self.options.recorded.count_below(EpisodeIndex(all));
        };
        let recorded = Arc::clone(&self.options.recorded_groups);
        self.refills.extend(recorded.filtered.iter().take(options.refill_max as usize));
        self.groups_total += self.refills.len() as u64;
        let groups = self.groups_total;
        for &number in recorded.open.keys().take_while(|number| **number < groups) {
            self.take_up(number, now);
        }
        let all = self.groups_total * u64::from(self.members);
        all - self.options.recorded.count_below(EpisodeIndex(all))
    }

    /// Takes a group up that an earlier run may have begun: how many members are left.
    pub(crate) fn take_up(&mut self, number: u64, now: Time) -> u64 {
        let members = self.options.recorded_groups.open.get(&number);
        if let Some(members) = members.cloned() {
            let mut group = Group::taken_up(members, self.draw(number), now);
            group.has_begun = self.options.episode_bytes_max.is_none();
            if group.started < self.members {
                self.filling.push(number);
            }
            self.groups.insert(number, group);
        }
        let first = number * u64::from(self.members);
        let members = (0..u64::from(self.members)).map(|sample| EpisodeIndex(first + sample));
        members.filter(|index| !self.options.recorded.contains(*index)).count() as u64
    }

    /// Whether a group was begun by an earlier run.
    pub(crate) fn was_begun(&self, group: u64) -> bool {
        let first = EpisodeIndex(group * u64::from(self.members));
        self.options.recorded.contains(first)
            || self.options.recorded_groups.open.contains_key(&group)
    }

    /// Members beyond the samples and those of refills, as far as they are not recorded.
    pub(crate) fn extra(&self) -> u64 {
        let Some(options) = self.options.group else { return 0 };
        let (members, samples) = (u64::from(self.members), u64::from(options.samples));
        let asked = self.groups_total - self.refills.len() as u64;
        let is_sample = |index: u64| index < asked * members && index % members < samples;
        let recorded = &self.options.recorded;
        let samples_recorded = recorded.iter().filter(|index| is_sample(index.0)).count() as u64;
        self.unstarted - (asked * samples - samples_recorded)
    }
}

impl Group {
    /// A group of which an earlier run has recorded these members.
    fn taken_up(members: Vec<MemberRecord>, task: Option<u32>, now: Time) -> Self {
        let mut group = Self::new(task, now);
        for member in members {
            let is_filtered = matches!(member.end, End::Filtered(_));
            group.usable += u32::from(member.used || is_filtered);
            // With a filter, nobody that counts has a record before it has spoken.
            group.decided |= member.used || is_filtered;
            group.filtered |= is_filtered;
            if let Some(hash) = member.first_observation {
                group.see_first(hash);
            }
            group.started += 1;
            group.members.push(member);
        }
        group
    }
}

impl Core {
    /// Has a group looked at with the next batch, if the job has taken it up.
    pub(crate) fn look_at_taken_up(&mut self, job: usize, group: u64) {
        if self.jobs[job].groups.contains_key(&group) {
            let deadline = self.jobs[job].options.group.and_then(|options| options.deadline);
            let ends_at = deadline.map_or(Time::NEVER, |deadline| self.now + deadline);
            self.alarms.set(self.now, Alarm::TakenUp(job, group));
            self.alarms.set(ends_at, Alarm::Group(job, group));
        }
    }

    /// Does what the earlier run would have done next with a group.
    pub(crate) fn on_taken_up(&mut self, job: usize, number: u64, outputs: &mut Outputs) {
        let state = &self.jobs[job];
        let Some((options, group)) = state.options.group.zip(state.groups.get(&number)) else {
            return;
        };
        if group.members.len() as u64 == u64::from(state.members) {
            self.end_group(job, number, outputs);
        } else if group.usable >= options.target() {
            self.cut(job, number, Cancellation::Cut, outputs);
        }
    }
}
