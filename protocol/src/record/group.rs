//! The record of a group: what became of the episodes of one task, and why.

use crate::record::End;

/// The record of one group, made when the last of its members has its own record. Exactly one exists
/// for every group of a job that asks for groups.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupRecord {
    /// The job, as the requester named it.
    pub job_id: String,
    /// The group's number within its job; its members' records carry the same.
    pub group_id: u64,
    /// The task, as the requester or the server's task set named it; empty where there is none.
    pub task_id: String,
    /// The environment, as the configuration names it.
    pub environment: String,
    /// The seed given to the environment for every member, if one was.
    pub seed: Option<u64>,
    /// The samples that were asked for.
    pub asked: u32,
    /// The members beyond those that were started to spare the wait for the slowest.
    pub oversampled: u32,
    /// With so many usable members the group is complete, and the rest is cut.
    pub complete_at: u32,
    /// Members that are there to train on: completed or truncated, and not filtered.
    pub used: u32,
    /// What became of the group.
    pub outcome: GroupOutcome,
    /// The filter that dropped the group; empty if none did.
    pub filter: String,
    /// The filtered group that this one was started in place of.
    pub refill_of: Option<u64>,
    /// Whether the members began alike.
    pub first_observations: FirstObservations,
    /// Attempts that were started beside a slow one.
    pub duplicates: u32,
    /// Steps of the used members' recorded attempts.
    pub steps_used: u64,
    /// Steps of everything else: members that were cut, filtered or failed, and attempts that were
    /// given up.
    pub steps_wasted: u64,
    /// Sampled tokens of the used members' recorded attempts.
    pub tokens_used: u64,
    /// Sampled tokens of everything else.
    pub tokens_wasted: u64,
    /// The first member was taken from the queue: microseconds from the start of the engine's run.
    pub started_us: u64,
    /// The last member ended: microseconds from the start of the engine's run.
    pub ended_us: u64,
    /// The members by their sample index: `asked + oversampled` of them.
    pub members: Vec<MemberRecord>,
}

/// One member of a group.
#[derive(Clone, Debug, PartialEq)]
pub struct MemberRecord {
    /// Its record.
    pub trajectory_id: String,
    /// The number within the group, from 0.
    pub sample_index: u32,
    /// Whether it is there to train on.
    pub used: bool,
    /// How it ended, and so why it is not used where it is not.
    pub end: End,
    /// Its score: the scorer's, or the environment's where there is no scorer.
    pub reward: Option<f64>,
    /// Steps of the attempt that is recorded.
    pub steps: u64,
    /// Sampled tokens of the attempt that is recorded.
    pub tokens: u64,
    /// The hash of its first observation, if it got that far; see
    /// [`observation_hash`](crate::record::observation_hash).
    pub first_observation: Option<u64>,
    /// Every attempt at it, in order.
    pub attempts: Vec<MemberAttempt>,
}

/// One try at a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberAttempt {
    /// Why it failed or was given up; empty for the one that was not.
    pub cause: String,
    /// Steps taken.
    pub steps: u64,
    /// Tokens sampled.
    pub tokens: u64,
}

/// What became of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GroupOutcome {
    /// It has as many usable members as it needs.
    Complete,
    /// It ended with fewer.
    Short,
    /// A filter dropped it.
    Filtered,
}

impl GroupOutcome {
    /// Every outcome.
    pub const ALL: [Self; 3] = [Self::Complete, Self::Short, Self::Filtered];
}

/// How the first observations of a group compare. Its members are reset with the same seed and
/// parameters, and many servers drop both silently.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum FirstObservations {
    /// Fewer than two members got that far.
    #[default]
    Unknown,
    /// All that were seen are the same, byte for byte.
    Agree,
    /// At least two differ.
    Differ,
}

impl FirstObservations {
    /// Every comparison.
    pub const ALL: [Self; 3] = [Self::Unknown, Self::Agree, Self::Differ];
}
