//! The seam to whoever plays.

use std::{fmt, path::PathBuf};

use bytes::Bytes;
use envmill_core::{AdmissionStatus, InFlight, JobOptions, JobStatus, MemoryStatus, Round};
use envmill_delivery::JobKey;
use envmill_protocol::{PolicyVersion, Trajectory, record::GroupRecord};

use crate::Desk;

/// An environment of the engine's configuration, with whoever plays its jobs.
pub struct Environment {
    /// Its name, as jobs give it.
    pub name: String,
    /// The most sessions at one time.
    pub sessions_max: u32,
    /// The most bytes of memory that what is played of its episodes under way may take together:
    /// [`Options::steps_bytes_max`](envmill_core::Options::steps_bytes_max) of whoever plays them.
    pub steps_bytes_max: u64,
    /// What a job gets where it does not say.
    pub defaults: JobOptions,
    /// The JSON Schema of an action.
    pub action_schema: Bytes,
    /// Whether programs of somebody's play it with its language model, as which each of its jobs is played:
    /// a job has no other policy.
    pub is_harness: bool,
    /// Plays its jobs.
    pub player: Box<dyn Player>,
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Environment").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Plays the jobs of one environment.
///
/// # Contract
///
/// * Orders are carried out in the order of the calls. No call blocks.
/// * Of every job that was submitted one [`Played::Refused`] is told and nothing else, or the records of
///   all its episodes and groups, each group's after those of its members, and then one
///   [`Played::Ended`].
/// * What is told is told in order, to whom it was promised when the player was made.
pub trait Player: Send {
    /// Takes a job on. Its name ([`JobOptions::name`]) is the job's id, and no other job's. If its episodes
    /// are scored by someone outside ([`JobOptions::scoring`]), `scorer` is the scorer's name.
    fn submit(&self, job: JobKey, options: JobOptions, policy: JobPolicy, scorer: Option<String>);

    /// Passes on a wish. One about a job that has ended is ignored.
    fn order(&self, job: JobKey, order: Order);

    /// How things stand. Cheap; it may be a moment old.
    fn snapshot(&self) -> Snapshot;
}

/// Who decides on a job's actions.
#[derive(Clone, Debug)]
pub enum JobPolicy {
    /// Valid actions drawn from the environment's schema.
    Random,
    /// Always this action: the text of one JSON object.
    Constant(Bytes),
    /// A trainer, at this desk.
    Trainer(Desk),
    /// The environment's language model.
    Model,
}

/// How a language model comes to a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Weights {
    /// The version.
    pub version: PolicyVersion,
    /// The folder of its weights; `None`: its inference engines have them already.
    pub folder: Option<PathBuf>,
    /// What becomes of episodes in flight.
    pub in_flight: InFlight,
    /// Generations under way are aborted, and go on from their tokens.
    pub abort: bool,
}

/// A wish about a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// The version that is ordered next is one of the language model's weights.
    Weights(Weights),
    /// The policy has a new version.
    Version(PolicyVersion, InFlight),
    /// Its tasks are drawn here, and this is the next round.
    Round(Round),
    /// Let episodes go no further than their next turn.
    Pause,
    /// Begin no groups, or without groups no episodes; what has begun goes on, of a paused job too.
    Slow,
    /// Let them go on.
    Resume,
    /// Begin no more episodes for now: the engine is about to stop, and its next life goes on.
    Hold,
    /// Begin no more episodes, and record those that have not begun as cancelled.
    Drain,
    /// Finish nothing more.
    Cancel,
}

/// What a player tells.
#[derive(Debug)]
pub enum Played {
    /// A job was not taken on, and why, for people.
    Refused(JobKey, String),
    /// Attempts at these episodes of a job begin: whoever decides is asked for their first action now. Should
    /// the engine end before their records are there, those of its next life say so.
    Begun(JobKey, Vec<u64>),
    /// Episodes are over.
    Records(Vec<Trajectory>),
    /// Groups are over.
    Groups(Vec<GroupRecord>),
    /// A job is over.
    Ended(JobKey),
    /// A version that was announced is now the one that episodes are begun on.
    VersionCurrent(JobKey, PolicyVersion),
    /// A job whose tasks are drawn by the service needs another round.
    RoundWanted(JobKey),
    /// Something that trainers should know.
    Warning {
        /// The job; `None`: every job of the environment.
        job: Option<JobKey>,
        /// One stable word, as the service's documentation lists them.
        kind: &'static str,
        /// What, for people.
        message: String,
    },
}

/// How things stand with an environment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Its servers, with their names.
    pub servers: Vec<(String, AdmissionStatus)>,
    /// Its jobs that have not ended.
    pub jobs: Vec<(JobKey, JobStatus)>,
    /// Sessions that are open.
    pub sessions: u32,
    /// The memory of its episodes.
    pub memory: MemoryStatus,
    /// Steps taken so far.
    pub steps: u64,
}
