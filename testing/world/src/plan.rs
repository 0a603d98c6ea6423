//! What a world is made of. Shares are of a thousand.

use std::time::Duration;

use envmill_core::{Input, JobOptions, Options};

use crate::Shape;

/// A whole world. The default is a calm one.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Decides every draw, the core's own included.
    pub seed: u64,
    /// The servers, in the order of their ids.
    pub servers: Vec<ServerPlan>,
    /// The first job.
    pub job: JobOptions,
    /// The jobs after it, submitted at the start.
    pub more_jobs: Vec<JobOptions>,
    /// The core's settings; its seed is the plan's.
    pub options: Options,
    /// Events and decisions delivered twice, the second time up to a second later.
    pub twice: u32,
    /// Answers beside which an event arrives that is not true: of the wrong kind, for another slot,
    /// with another generation, or an old one once more up to two minutes later.
    pub lies: u32,
    /// How late the driver may look at what has happened. What it finds then comes in any order.
    pub late: Duration,
    /// How the core's clock runs.
    pub clock: ClockPlan,
    /// How long the policy thinks over a turn, about.
    pub think: Duration,
    /// Turns that the policy refuses.
    pub refuse: u32,
    /// Turns that the policy never answers.
    pub mute: u32,
    /// Turns over which the policy thinks a thousand times as long.
    pub ponder: u32,
    /// Who plays the jobs that have an external driver.
    pub external: ExternalPlan,
    /// Scores are whole numbers below this.
    pub score_values: u64,
    /// How long the scorer takes, at most.
    pub score_within: Duration,
    /// Episodes that the scorer has no score for. Where it sees whole groups: groups at which it raises an
    /// exception, and members that it cannot judge.
    pub score_fails: u32,
    /// Episodes that the scorer never answers for. Where it sees whole groups: groups that are given up after
    /// `score_timeout`.
    pub score_mute: u32,
    /// How long whole groups are waited for.
    pub score_timeout: Duration,
    /// Whole groups of which the answer has fewer scores than members.
    pub score_short: u32,
    /// Members of whole groups whose score has no reward.
    pub score_missing: u32,
    /// What is put into the core from outside, and when.
    pub wishes: Vec<(Duration, Input)>,
}

/// How the clock that the core is told differs from the world's own.
#[derive(Clone, Copy, Debug, Default)]
pub struct ClockPlan {
    /// About so long lies between two jumps; never, where it is `None`.
    pub jump_every: Option<Duration>,
    /// The most that a jump goes forwards.
    pub forwards_max: Duration,
    /// The most that a jump goes backwards.
    pub backwards_max: Duration,
}

/// How an external driver plays.
#[derive(Clone, Copy, Debug)]
pub struct ExternalPlan {
    /// The most turns of an episode.
    pub turns_max: u64,
    /// The most steps in one turn.
    pub steps_max: u64,
    /// Turns that are opened and never closed.
    pub hang: u32,
    /// Episodes that the driver reports as failed.
    pub fail: u32,
}

impl Default for ExternalPlan {
    fn default() -> Self {
        Self { turns_max: 5, steps_max: 3, hang: 0, fail: 0 }
    }
}

/// How a server behaves.
#[derive(Clone, Debug)]
pub struct ServerPlan {
    /// The environment that it serves.
    pub environment: u32,
    /// The most sessions that it holds.
    pub capacity: usize,
    /// About how long a connection takes.
    pub connect: Duration,
    /// About how long the first reset of a session takes, which constructs it.
    pub construct: Duration,
    /// About how long a later reset and a step take.
    pub step: Duration,
    /// How these spread.
    pub shape: Shape,
    /// A hundredth of the steps takes this many times as long.
    pub tail: u32,
    /// What each request costs of the one processor that the server has: requests queue for it, and
    /// those that their client has given up are computed all the same. Zero: it has enough.
    pub processor: Duration,
    /// The same for the construction of a session.
    pub processor_construct: Duration,
    /// How many times over a connection waits for all that the processor has taken on, before the
    /// reset does once more.
    pub connect_turns: u32,
    /// Steps that never answer.
    pub hang: u32,
    /// Connections that are never made.
    pub hang_connect: u32,
    /// Resets, the first included, that never answer.
    pub hang_reset: u32,
    /// Closes that never answer.
    pub hang_close: u32,
    /// Steps that break the connection.
    pub cut: u32,
    /// Steps that raise an exception.
    pub raise: u32,
    /// Resets that raise an exception.
    pub raise_reset: u32,
    /// Upgrades that are refused with a 503 and a `Retry-After`.
    pub refuse: u32,
    /// First resets at which the environment cannot be constructed.
    pub factory: u32,
    /// Sessions that are lost while nothing is asked of them, in cases of each answer.
    pub lose_idle: u32,
    /// Episodes that end at their reset.
    pub stillborn: u32,
    /// Episodes that the environment cuts short instead of ending them.
    pub truncate: u32,
    /// Between two crashes, which lose every session; the server is away for `away` after each.
    pub crash_every: Option<Duration>,
    /// How long a crashed server is away.
    pub away: Duration,
    /// Whether the core is told when the server is back.
    pub announces_return: bool,
    /// Times in which it is slower, or away.
    pub spells: Vec<Spell>,
    /// Steps until the episode ends: drawn from 1 to this.
    pub episode_steps: u64,
}

/// A time in which a server is not itself.
#[derive(Clone, Copy, Debug)]
pub struct Spell {
    /// When it begins.
    pub from: Duration,
    /// When it is over.
    pub until: Duration,
    /// Everything takes this many times as long; 0: it takes no connection, and what it holds is
    /// lost at the beginning.
    pub slower: u32,
}

impl Default for ServerPlan {
    fn default() -> Self {
        Self {
            environment: 0,
            capacity: usize::MAX,
            connect: Duration::from_micros(200),
            construct: Duration::from_millis(2),
            step: Duration::from_millis(1),
            shape: Shape::Spread,
            tail: 1,
            processor: Duration::ZERO,
            processor_construct: Duration::ZERO,
            connect_turns: 0,
            hang: 0,
            hang_connect: 0,
            hang_reset: 0,
            hang_close: 0,
            cut: 0,
            raise: 0,
            raise_reset: 0,
            refuse: 0,
            factory: 0,
            lose_idle: 0,
            stillborn: 0,
            truncate: 0,
            crash_every: None,
            away: Duration::from_secs(1),
            announces_return: false,
            spells: Vec::new(),
            episode_steps: 20,
        }
    }
}

impl Plan {
    /// Every job, in the order of their ids.
    pub fn jobs(&self) -> impl Iterator<Item = &JobOptions> {
        std::iter::once(&self.job).chain(&self.more_jobs)
    }

    /// How long jobs may have been paused, at most.
    pub(crate) fn paused(&self) -> Duration {
        let first =
            self.wishes.iter().filter(|(_, it)| matches!(it, Input::Pause(_))).map(|it| it.0);
        let last =
            self.wishes.iter().filter(|(_, it)| matches!(it, Input::Resume(_))).map(|it| it.0);
        first
            .min()
            .zip(last.max())
            .map_or(Duration::ZERO, |(first, last)| last.saturating_sub(first))
    }

    /// Episodes asked for, over all jobs, with those that groups start beyond their samples; groups
    /// in place of filtered ones come on top.
    #[must_use]
    pub fn episodes(&self) -> u64 {
        self.jobs().map(episodes_of).sum()
    }
}

/// The members of each of a job's groups; 1 without groups.
pub(crate) fn members_of(job: &JobOptions) -> u64 {
    job.group.map_or(1, |group| u64::from(group.samples + group.oversample))
}

/// The episodes of a job, refills aside.
pub(crate) fn episodes_of(job: &JobOptions) -> u64 {
    job.episodes / job.group.map_or(1, |group| u64::from(group.samples)) * members_of(job)
}
