//! What an engine, a server and a job are told at their start.

mod groups;
mod retries;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use envmill_protocol::Phase;

use crate::{AdmissionOptions, EpisodeSet, RecordedGroups, Tasks};

pub use groups::{GroupFilter, GroupOptions, GroupPlacement};
pub use retries::{EjectionOptions, OnEnvironmentError, RetryBudget, Scoring};

/// Settings of one core.
#[derive(Clone, Debug)]
pub struct Options {
    /// Wall-clock time of [`Time::ZERO`](crate::Time::ZERO), in microseconds since 1970 (UTC); goes
    /// into the records and decides nothing.
    pub run_started_unix_us: u64,
    /// Seeds the core's own draws (jitter of delays). Not the episodes' seed.
    pub seed: u64,
    /// The most slots: sessions open, opening or closing at one time. A slot costs about 200 bytes
    /// before its episode.
    pub slots_max: u32,
    /// How servers are admitted to; the same for all.
    pub admission: AdmissionOptions,
    /// How servers unlike their pool are kept from new sessions; the same for all.
    pub ejection: EjectionOptions,
    /// How much of the attempts on one server may be tried again.
    pub server_retry_budget: RetryBudget,
    /// The most bytes of memory that what was played of the episodes under way, and of those that wait
    /// for their score or their group, takes together. Jobs with an
    /// [`episode_bytes_max`](JobOptions::episode_bytes_max) reserve their part of it before they begin an
    /// episode. Of the others, where everything together takes more, an episode that holds no less than
    /// the mean and grows is truncated.
    pub steps_bytes_max: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            run_started_unix_us: 0,
            seed: 0,
            slots_max: 1 << 20,
            admission: AdmissionOptions::default(),
            ejection: EjectionOptions::default(),
            server_retry_budget: RetryBudget::default(),
            steps_bytes_max: u64::MAX,
        }
    }
}

/// A server of an environment's pool.
#[derive(Clone, Debug, Default)]
pub struct ServerOptions {
    /// Its URL, or the name of a local worker; goes into the records.
    pub name: String,
    /// The environment that it serves, from 0. Servers of one environment form a pool.
    pub environment: u32,
    /// What identifies the environment's code; empty where unknown.
    pub fingerprint: String,
}

/// A request for episodes.
#[derive(Clone, Debug)]
pub struct JobOptions {
    /// Names the job in records and in the trajectory ids, which are `NAME-00000000` and so on.
    pub name: String,
    /// The environment, from 0; its servers are the job's pool.
    pub environment: u32,
    /// The environment's name, for the records.
    pub environment_name: String,
    /// How many episodes; each ends in exactly one record. Those of oversampling and refills come on
    /// top.
    pub episodes: u64,
    /// Groups of episodes; `None`: each episode is its own, and there are no records of groups.
    pub group: Option<GroupOptions>,
    /// The most sessions at one time.
    pub sessions_max: u32,
    /// Group `i` (without groups, episode `i`) is reset with the seed `(seed + i) mod 2^31`, unless its reset
    /// parameters or those of its task have a `seed`; each episode's policy draws from a seed derived from `seed` and the episode's own number.
    pub seed: u64,
    /// Whether a `seed` is sent with the reset. Off for environments that refuse the key.
    pub send_seed: bool,
    /// Reset parameters for every episode: the text of one JSON object, or empty for none.
    pub reset_parameters: Bytes,
    /// Tasks that the groups play (without groups, the episodes), in rounds; without any, all play
    /// what `reset_parameters` says.
    pub tasks: Tasks,
    /// Episodes that have their record from an earlier run of this job: they are neither played nor
    /// recorded again, and are not among [`Counts::requested`](crate::Counts::requested). With groups,
    /// the member with sample index `s` of group `g` is number `g × members + s`.
    pub recorded: Arc<EpisodeSet>,
    /// What else that run has left of its groups.
    pub recorded_groups: Arc<RecordedGroups>,
    /// An episode that has taken this many steps is truncated.
    pub max_steps: Option<u32>,
    /// The most bytes of memory that what is played of an episode may take: its observations, actions,
    /// metadata and generations. The step, or the generation, that goes beyond is not kept, and the episode
    /// is truncated; one whose first observation does, fails. A group begins once so much is free for all
    /// of its members together, without groups an episode, and keeps it until they are recorded. `None`:
    /// nothing is reserved, and [`Options::steps_bytes_max`] cuts the largest.
    pub episode_bytes_max: Option<u64>,
    /// How long things may take.
    pub deadlines: Deadlines,
    /// The most attempts at one episode, the first included; at least 1. Sessions that were refused
    /// before they began (a full or unreachable server) are no attempts.
    pub attempts_max: u32,
    /// How many episodes one session may play.
    pub session_reuse: SessionReuse,
    /// Who opens the turns.
    pub driver: Driver,
    /// What to do when a server's fingerprint changes during the job.
    pub on_fingerprint_change: FingerprintChange,
    /// What becomes of an episode whose environment raised an exception in a step.
    pub on_environment_error: OnEnvironmentError,
    /// What the environment does is real (production mode, tool calls): nothing is tried again or
    /// twice once a reset or a step has been sent.
    pub production: bool,
    /// Whether doing the same twice does no harm, so that `production` need not keep from it.
    pub idempotent: bool,
    /// How much may be tried again.
    pub retry_budget: RetryBudget,
    /// Who says what an episode was worth.
    pub scoring: Scoring,
    /// How far behind a new policy version episodes under way may have begun, in steps of the trainer
    /// within one lineage; `None`: as far as they like. What began further behind ends with
    /// [`Cancellation::Stale`](envmill_protocol::record::Cancellation::Stale) when the version takes
    /// effect, and so does what began on an older lineage, whatever stands here. An attempt without its
    /// first observation goes on and counts as begun on the new version. What was played to its end is
    /// never judged here.
    pub staleness_max: Option<u64>,
    /// The job's share of the sessions of its pool, in proportion to those of the other jobs of its
    /// priority; at least 1.
    pub weight: u32,
    /// Jobs of a higher priority are served first; what they leave goes to the next. A job that
    /// always has work can starve those below it, and none beside it.
    pub priority: i32,
}

impl Default for JobOptions {
    fn default() -> Self {
        Self {
            name: "job".into(),
            environment: 0,
            environment_name: String::new(),
            episodes: 1,
            group: None,
            sessions_max: 1,
            seed: 0,
            send_seed: true,
            reset_parameters: Bytes::new(),
            tasks: Tasks::default(),
            recorded: Arc::default(),
            recorded_groups: Arc::default(),
            max_steps: None,
            episode_bytes_max: None,
            deadlines: Deadlines::default(),
            attempts_max: 3,
            session_reuse: SessionReuse::default(),
            driver: Driver::Policy,
            on_fingerprint_change: FingerprintChange::Stop,
            on_environment_error: OnEnvironmentError::Fail,
            production: false,
            idempotent: false,
            retry_budget: RetryBudget::default(),
            scoring: Scoring::Environment,
            staleness_max: None,
            weight: 1,
            priority: 0,
        }
    }
}

/// How long each part of an episode may take. `None`: as long as it likes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadlines {
    /// Making the connection, up to the WebSocket upgrade. Default 10 s.
    pub connect: Option<Duration>,
    /// The first reset of a session, in which many servers construct the environment. Default 120 s.
    pub first_reset: Option<Duration>,
    /// A later reset. Default 60 s.
    pub reset: Option<Duration>,
    /// A step. Default 60 s.
    pub step: Option<Duration>,
    /// The policy's decision on one turn. Default 600 s.
    pub policy: Option<Duration>,
    /// From the start of an attempt to the episode's end; past it the episode is truncated, or
    /// failed if it has no observation yet. Default none.
    pub episode: Option<Duration>,
    /// The whole job; past it what is unfinished is cancelled. Default none.
    pub job: Option<Duration>,
    /// How long the whole pool may be without any sign of life before what is waiting for a session
    /// fails. Default 60 s.
    pub no_server: Duration,
}

impl Deadlines {
    /// The limit on one phase.
    #[must_use]
    pub const fn of(&self, phase: Phase) -> Option<Duration> {
        match phase {
            Phase::Connect => self.connect,
            Phase::FirstReset => self.first_reset,
            Phase::Reset => self.reset,
            Phase::Step => self.step,
            Phase::Policy => self.policy,
            Phase::Episode => self.episode,
            Phase::Job => self.job,
            Phase::Scoring => None, // stands in `Scoring`
        }
    }
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            connect: Some(Duration::from_secs(10)),
            first_reset: Some(Duration::from_secs(120)),
            reset: Some(Duration::from_secs(60)),
            step: Some(Duration::from_secs(60)),
            policy: Some(Duration::from_secs(600)),
            episode: None,
            job: None,
            no_server: Duration::from_secs(60),
        }
    }
}

/// How many episodes one session may play. After an error a session is never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionReuse {
    /// One: a new session for each episode.
    Never,
    /// At most this many; 0 reads as 1.
    Episodes(u32),
    /// No limit.
    Unlimited,
}

impl SessionReuse {
    /// Whether a session that has played `played` episodes may play another.
    #[must_use]
    pub const fn allows(self, played: u32) -> bool {
        match self {
            Self::Never => played == 0,
            Self::Episodes(most) => played < most || played == 0,
            Self::Unlimited => true,
        }
    }
}

impl Default for SessionReuse {
    fn default() -> Self {
        Self::Episodes(32)
    }
}

/// Who opens the turns of an episode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    /// The engine: it asks the policy and steps the environment.
    Policy,
    /// Someone outside (a black-box harness, a trainer): the core keeps the deadlines, the capacity
    /// and the record, and is told of turns through [`Input::External`](crate::Input::External).
    External,
}

/// What to do when an environment turns out to be another one than at the job's start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FingerprintChange {
    /// Stop the job: what is unfinished is cancelled.
    Stop,
    /// Go on; the records carry the fingerprint they were played on.
    Mark,
}

/// Why a job or an engine cannot be set up as asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OptionsError {
    /// The job names an environment that no server serves.
    #[error("no server serves environment {0}: add one before the job")]
    NoServer(u32),
    /// A count that must be at least 1 is 0.
    #[error("{0} is 0; it must be at least 1")]
    Zero(&'static str),
    /// The reset parameters are not the text of a JSON object.
    #[error("the reset parameters must be one JSON object such as {{\"split\":\"train\"}}")]
    ResetParameters,
    /// The weights of its tasks make no rounds.
    #[error(
        "the weights of {tasks} tasks are {} together: a round must have at least a 64th of the tasks and \
         at most 67108864 of them; multiply all weights by the same number",
        *.millionths as f64 / 1e6
    )]
    Weights {
        /// How many tasks there are.
        tasks: usize,
        /// Their weights together.
        millionths: u64,
    },
    /// The episodes do not make whole groups.
    #[error("{episodes} episodes do not make groups of {samples}: ask for a multiple")]
    Samples {
        /// The episodes asked for.
        episodes: u64,
        /// [`GroupOptions::samples`].
        samples: u32,
    },
    /// A group is larger than a group may be.
    #[error("a group of {asked} members, oversampled ones included; it may have {most}")]
    Members {
        /// How many the job wants.
        asked: u32,
        /// How many there may be.
        most: u32,
    },
    /// A group is to be complete with more members than it has.
    #[error(
        "a group is to be complete with {complete_at} members and has {members}: ask for fewer, or \
         for more samples"
    )]
    CompleteAt {
        /// [`GroupOptions::complete_at`].
        complete_at: u32,
        /// Samples and oversampled ones together.
        members: u32,
    },
    /// A filter by variance on groups that are complete with one member.
    #[error("groups of one usable member have no variance to filter by: ask for more samples")]
    NoVariance,
    /// More sessions than the core has slots for.
    #[error("{asked} sessions asked for, and the engine was set up for at most {most}")]
    Slots {
        /// How many the job wants.
        asked: u32,
        /// [`Options::slots_max`].
        most: u32,
    },
    /// A group that would never find enough memory free to begin.
    #[error(
        "a group of {members} episodes that may take {episode_bytes} bytes each never fits into the \
         {most} bytes that the engine has for the episodes under way: ask for smaller episodes \
         (`episode_bytes_max`) or groups, or give the engine more"
    )]
    Memory {
        /// Samples and oversampled ones together; 1 without groups.
        members: u32,
        /// [`JobOptions::episode_bytes_max`].
        episode_bytes: u64,
        /// [`Options::steps_bytes_max`].
        most: u64,
    },
}
