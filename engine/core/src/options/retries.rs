//! What is tried again, how much of it, and who says what an episode was worth.

use std::time::Duration;

/// How much of the work may be tried again. Retries and duplicates of stragglers spend it.
///
/// At any time, at most `floor + percent / 100 * attempts` may have been spent, where `attempts`
/// counts the attempts begun so far. A job's floor is at least the number of its sessions and a
/// server's at least the most sessions it has held, since the death of a server gives all of them
/// back at once, and that is no storm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryBudget {
    /// Of the attempts begun. Default 10. 100 and more never run out in practice.
    pub percent: u32,
    /// What may be spent in any case. Default 16.
    pub floor: u32,
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self { percent: 10, floor: 16 }
    }
}

/// What becomes of an episode whose environment raised an exception in a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnEnvironmentError {
    /// It fails: the exception is the environment's answer to the action.
    #[default]
    Fail,
    /// It is tried again, with the same seed, as far as attempts and budget go. Episodes that survive
    /// are favoured.
    Retry,
    /// It is recorded as truncated (`environment_error`) with the steps before.
    Truncate,
}

impl OnEnvironmentError {
    /// The name in configurations.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fail => "fail",
            Self::Retry => "retry",
            Self::Truncate => "truncate",
        }
    }
}

/// Who says what an episode was worth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scoring {
    /// The environment: the sum of its rewards.
    #[default]
    Environment,
    /// Someone outside: each episode that was played is handed out in
    /// [`Outputs::to_score`](crate::Outputs::to_score) and waits for
    /// [`Input::Scored`](crate::Input::Scored).
    External {
        /// How long a score may take; past it the episode fails with `deadline_scoring`.
        deadline: Option<Duration>,
        /// The most episodes with the scorer at one time; while so many are, none is started.
        most: u32,
        /// Whether the scorer keeps the members of a group until all that will come are there. What keeps
        /// others from being started (`most`, a version that waits until nothing is in flight) then
        /// does not keep the missing members of groups that have begun: the scorer would wait for them
        /// for ever.
        whole_groups: bool,
    },
}

/// When a server that behaves unlike its pool gets no new sessions for a while. Pools of fewer than
/// three servers have nothing to compare by, and are left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EjectionOptions {
    /// The most servers of a pool that may be ejected, in percent, those that are down included; 0
    /// turns ejection off. Default 34: one of three.
    pub percent_max: u32,
    /// How often servers are compared, over what happened since the last time. Default 10 s.
    pub interval: Duration,
    /// Fewer attempts than this since the last comparison say nothing about failures. Default 20.
    pub attempts_min: u32,
    /// A server is an outlier if its share of failed attempts is so many points above the pool's
    /// median. Default 30.
    pub failure_points: u32,
    /// Fewer steps than this since the last comparison say nothing about latency. Default 100.
    pub steps_min: u32,
    /// A server is an outlier if its typical step takes so many times as long as the pool's median
    /// server's (compared by the mean of the binary logarithm, which a heavy tail does not move).
    /// Default 8.
    pub slower: u32,
    /// Steps faster than this are never slow, whatever the others do. Default 20 ms.
    pub slow_min: Duration,
    /// The first rest; it doubles with each in a row, up to `rest_max`. Default 30 s.
    pub rest: Duration,
    /// The longest rest. Default 300 s.
    pub rest_max: Duration,
}

impl Default for EjectionOptions {
    fn default() -> Self {
        Self {
            percent_max: 34,
            interval: Duration::from_secs(10),
            attempts_min: 20,
            failure_points: 30,
            steps_min: 100,
            slower: 8,
            slow_min: Duration::from_millis(20),
            rest: Duration::from_secs(30),
            rest_max: Duration::from_secs(300),
        }
    }
}
