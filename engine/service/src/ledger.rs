//! What the service itself keeps of a job in the journal, beside what it owes.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bytes::Bytes;
use envmill_core::{RecordedGroups, recorded_member};
use envmill_protocol::{
    Trajectory,
    record::{Cancellation, End, GroupOutcome, GroupRecord, MemberAttempt, MemberRecord},
};
use envmill_wire as wire;
use prost::Message as _;

/// The name of the note that a [`Ledger`] is in.
pub(crate) const NOTE: &str = "ledger";
/// What the names of the notes of groups begin with.
const OPEN: &str = "open-";

/// What does not change of a job.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Description {
    #[prost(string, tag = "1")]
    pub(crate) id: String,
    #[prost(message, optional, tag = "2")]
    pub(crate) job: Option<wire::SubmitJob>,
}

/// What changes of it.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Ledger {
    /// The counts so far.
    #[prost(message, optional, tag = "1")]
    pub(crate) account: Option<wire::JobEnd>,
    /// The trainer has paused it.
    #[prost(bool, tag = "2")]
    pub(crate) is_paused: bool,
    /// The trainer has asked for its end.
    #[prost(enumeration = "Ending", tag = "3")]
    pub(crate) ending: i32,
    /// The groups that a filter dropped, in the order of their records.
    #[prost(uint64, repeated, tag = "4")]
    pub(crate) filtered: Vec<u64>,
}

/// How a trainer has asked for a job's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub(crate) enum Ending {
    /// Not.
    None = 0,
    /// What is in flight is finished.
    Drained = 1,
    /// Nothing is.
    Cancelled = 2,
}

impl Ledger {
    /// Counts an episode that is over.
    pub(crate) fn count(&mut self, end: &End) {
        let account = self.account.get_or_insert_default();
        match end {
            End::Completed { .. } => account.completed += 1,
            End::Truncated(_) => account.truncated += 1,
            End::Failed(failure) => {
                account.failed += 1;
                *account.failures.entry(failure.kind.name()).or_default() += 1;
            }
            End::Cancelled(Cancellation::Stale) | End::Stale => {
                account.stale += 1;
            }
            End::Cancelled(_) => account.cancelled += 1,
            End::Filtered(_) => account.filtered += 1,
        }
    }

    /// Counts a group that is over.
    pub(crate) fn count_group(&mut self, group: &GroupRecord) {
        self.account.get_or_insert_default().groups += 1;
        if group.outcome == GroupOutcome::Filtered {
            self.filtered.push(group.group_id);
        }
    }
}

/// The members that are recorded of groups that are not: what the core has to know of them if it is
/// killed. Each group has a note of its own, whose name serves another group when it is over.
#[derive(Debug, Default)]
pub(crate) struct OpenGroups {
    groups: BTreeMap<u64, OpenGroup>,
    /// Names that are free.
    free: Vec<u64>,
    next: u64,
    dirty: BTreeSet<u64>,
}

#[derive(Debug)]
struct OpenGroup {
    name: u64,
    note: wire::Group,
}

impl OpenGroups {
    /// A member of a group is recorded.
    pub(crate) fn add(&mut self, trajectory: &Trajectory) {
        let group = trajectory.group_id;
        let member = recorded_member(trajectory);
        let open = self.groups.entry(group).or_insert_with(|| {
            let name = self.free.pop().unwrap_or_else(|| {
                self.next += 1;
                self.next - 1
            });
            OpenGroup { name, note: wire::Group { group_id: group, ..wire::Group::default() } }
        });
        open.note.members.push(wire::member(member));
        self.dirty.insert(group);
    }

    /// A group is about to be recorded: its members get the attempts of earlier lives that their own records have.
    pub(crate) fn complete(&self, record: &mut GroupRecord) {
        let Some(open) = self.groups.get(&record.group_id) else { return };
        for member in &mut record.members {
            let is_its = |it: &&wire::Member| it.trajectory_id == member.trajectory_id;
            let Some(recorded) = open.note.members.iter().find(is_its) else { continue };
            let earlier = recorded.attempts.len().saturating_sub(member.attempts.len());
            member.attempts.splice(0..0, recorded.attempts[..earlier].iter().map(attempt));
        }
    }

    /// A group is recorded.
    pub(crate) fn remove(&mut self, group: u64) {
        self.dirty.remove(&group);
        if let Some(open) = self.groups.remove(&group) {
            self.free.push(open.name);
        }
    }

    /// The notes that have changed.
    pub(crate) fn take_notes(&mut self) -> Vec<(String, Bytes)> {
        let dirty = std::mem::take(&mut self.dirty);
        let open = dirty.iter().filter_map(|group| self.groups.get(group));
        open.map(|it| (format!("{OPEN}{}", it.name), it.note.encode_to_vec().into())).collect()
    }

    /// As the journal's notes have them: those of groups that `is_over` says are over count for nothing.
    pub(crate) fn restored(
        notes: &BTreeMap<String, Bytes>,
        is_over: impl Fn(u64) -> bool,
    ) -> (Self, RecordedGroups) {
        let mut open = Self::default();
        let mut recorded = RecordedGroups::default();
        for (name, value) in notes {
            let Some(name) = name.strip_prefix(OPEN).and_then(|name| name.parse().ok()) else {
                continue;
            };
            open.next = open.next.max(name + 1);
            match wire::Group::decode(value.clone()) {
                Ok(note) if !is_over(note.group_id) => {
                    let members = note.members.iter().filter_map(member).collect();
                    recorded.open.insert(note.group_id, members);
                    open.groups.insert(note.group_id, OpenGroup { name, note });
                }
                _ => open.free.push(name),
            }
        }
        (open, recorded)
    }
}

/// A member as the core knows it. `None` if this version does not know how it ended.
fn member(member: &wire::Member) -> Option<MemberRecord> {
    let end = member.end.clone().unwrap_or_default();
    let retry_after = end.retry_after_ms.map(Duration::from_millis);
    Some(MemberRecord {
        trajectory_id: member.trajectory_id.clone(),
        sample_index: member.sample_index,
        used: member.used,
        end: End::from_words(&end.kind, &end.cause, end.message, end.session_lost, retry_after)?,
        reward: member.reward,
        steps: member.steps,
        tokens: member.tokens,
        first_observation: member.first_observation,
        attempts: member.attempts.iter().map(attempt).collect(),
    })
}

fn attempt(it: &wire::MemberAttempt) -> MemberAttempt {
    MemberAttempt { cause: it.cause.clone(), steps: it.steps, tokens: it.tokens }
}
