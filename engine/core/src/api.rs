//! What goes into the core and what comes out.

use std::time::Duration;

use envmill_protocol::{
    Command, Decision, Event, Failure, Generated, Generation, JobId, Phase, PolicyVersion,
    ServerId, Slot, Trajectory, Turn,
    record::{End, GroupRecord, Step},
};

use crate::Round;

/// Something that happened outside.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// A worker's event.
    Event(Event),
    /// A policy's decision.
    Decision(Decision),
    /// News from an external driver.
    External(External),
    /// A server was looked at (again), and this is what identifies its environment now.
    Fingerprint {
        /// The server.
        server: ServerId,
        /// Its fingerprint.
        fingerprint: String,
    },
    /// A server is known to be there again (its process was restarted): try it at once.
    ServerReady(ServerId),
    /// A scorer's word on an episode that was handed out in [`Outputs::to_score`].
    Scored(Scored),
    /// The trainer has a new policy version for a job. One that is no larger than the job's, or than
    /// the one that it waits for, is ignored, and so is one for a job that has ended.
    PolicyVersion {
        /// The job.
        job: JobId,
        /// The version.
        version: PolicyVersion,
        /// What becomes of the episodes under way.
        in_flight: InFlight,
    },
    /// The next round of a job whose rounds are drawn outside ([`Tasks::in_rounds`](crate::Tasks::in_rounds)).
    /// One that does not begin where the last ends changes nothing.
    Round {
        /// The job.
        job: JobId,
        /// The round.
        round: Round,
    },
    /// Let this job's episodes go no further than their next turn, and start none: who takes its records
    /// has no room for more. A session is kept for as long as a policy may take for a turn; then the
    /// attempt is given up with [`FailureKind::Paused`](envmill_protocol::FailureKind::Paused), and the
    /// episode begins again when the job goes on. Episodes' own deadlines stand still meanwhile, the job's
    /// does not. What an external driver has been handed goes on. One of a job that drains can only go on,
    /// not begin again.
    Pause(JobId),
    /// Let this job begin no groups, or without groups no episodes: who takes its records has no room for
    /// more of them. What has begun goes on to its end, members of begun groups that have not been started
    /// included, and gives back the memory that is reserved for it. A paused job goes on as far as that.
    Slow(JobId),
    /// Let a paused or slowed job go on.
    Resume(JobId),
    /// Start no more episodes of this job, for good, and record nothing of those that wait: the engine is
    /// about to end, and its next life goes on with them. Those under way finish.
    Hold(JobId),
    /// Start no more episodes of this job: those waiting are cancelled, those under way finish.
    Drain(JobId),
    /// Finish nothing more of this job: all that is unfinished is cancelled.
    Cancel(JobId),
}

/// What becomes of a job's episodes in flight when a new policy version is announced. In flight is an
/// episode that was started and has neither been recorded nor got its score: it waits to be tried again,
/// holds a session or is with the scorer. One that only waits for its group's filter is not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum InFlight {
    /// They go on, and the version is the job's at once.
    #[default]
    Keep,
    /// They end first. Until then no episode of the job is started that was not before, members of groups
    /// that have begun included, while started ones are tried again as ever. Once none is in flight, the
    /// version is the job's and starts go on. A larger version that comes meanwhile takes the place of
    /// the one waited for, and with [`Keep`](Self::Keep) ends the waiting.
    Drain,
}

/// News from whoever drives an episode of a job with [`Driver::External`](crate::Driver::External).
#[derive(Clone, Debug, PartialEq)]
pub struct External {
    /// The session, as handed out in [`Outputs::handed`].
    pub slot: Slot,
    /// The generation it was handed out with. News with another one is late and is ignored.
    pub generation: Generation,
    /// What happened.
    pub turn: ExternalTurn,
}

/// What an external driver reports.
#[derive(Clone, Debug, PartialEq)]
pub enum ExternalTurn {
    /// A turn began; the step deadline runs from now.
    Opened,
    /// The turn ended.
    Closed {
        /// The steps taken in it, possibly none.
        steps: Vec<Step>,
        /// The language model calls made in it.
        generations: Vec<Generated>,
    },
    /// The episode is over.
    EpisodeEnded(End),
}

/// Names an episode that waits for its score.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ScoreTicket(pub u64);

/// An episode that was played and waits for its score.
#[derive(Clone, Debug, PartialEq)]
pub struct ToScore {
    /// The answer must echo it.
    pub ticket: ScoreTicket,
    /// The episode as it will be recorded, but for its score and for what its group may yet decide.
    pub trajectory: Box<Trajectory>,
}

/// The answer to a [`ToScore`]. One that comes late or twice is counted and changes nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct Scored {
    /// The episode.
    pub ticket: ScoreTicket,
    /// Its score, or for people why there is none; the episode then fails with `scorer`.
    pub result: Result<Score, String>,
}

/// What an episode was worth.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Score {
    /// The reward that is recorded; `None`: there is none, which is not zero.
    pub reward: Option<f64>,
    /// Its named parts.
    pub components: Vec<(String, f64)>,
}

/// What the core wants done. The caller takes everything out after each call of
/// [`Core::settle`](crate::Core::settle) and carries it out in the order of each list.
#[derive(Debug, Default)]
pub struct Outputs {
    /// For the workers.
    pub commands: Vec<Command>,
    /// For the policy.
    pub turns: Vec<Turn>,
    /// Turns whose decision is no longer wanted.
    pub cancelled_turns: Vec<(Slot, Generation)>,
    /// Episodes handed to the external driver, with their first observation.
    pub handed: Vec<Turn>,
    /// Finished episodes: exactly one record for each requested one.
    pub records: Vec<Trajectory>,
    /// Finished groups of jobs that ask for groups: exactly one record for each, in no earlier call
    /// than the last of its members' records.
    pub groups: Vec<GroupRecord>,
    /// Episodes that wait for their score, of jobs with
    /// [`Scoring::External`](crate::Scoring::External).
    pub to_score: Vec<ToScore>,
    /// How long commands took.
    pub latencies: Vec<Latency>,
    /// News for logs and for the driver.
    pub notes: Vec<Note>,
}

impl Outputs {
    /// Whether nothing is to be done.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.commands.is_empty()
            && self.turns.is_empty()
            && self.cancelled_turns.is_empty()
            && self.handed.is_empty()
            && self.records.is_empty()
            && self.groups.is_empty()
            && self.to_score.is_empty()
            && self.latencies.is_empty()
            && self.notes.is_empty()
    }
}

/// How long a command took, from leaving the core to its answer reaching it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Latency {
    /// Connect, first reset, reset or step.
    pub phase: Phase,
    /// How long.
    pub took: Duration,
}

/// Something worth telling.
#[derive(Clone, Debug, PartialEq)]
pub enum Note {
    /// A server refused a session, and this is now its learned limit.
    LimitLearned {
        /// The server.
        server: ServerId,
        /// Sessions it was seen to hold.
        limit: u32,
    },
    /// A server gives no sessions for now; it is tried again later.
    ServerDown {
        /// The server.
        server: ServerId,
        /// Its last failure.
        failure: Failure,
    },
    /// A server that was down gave a session again. The driver should look at its fingerprint.
    ServerRecovered(ServerId),
    /// A server's fingerprint changed during the run.
    FingerprintChanged {
        /// The server.
        server: ServerId,
        /// What it was.
        before: String,
        /// What it is.
        after: String,
    },
    /// An attempt failed and the episode will be tried again.
    AttemptFailed {
        /// The server.
        server: ServerId,
        /// Why.
        failure: Failure,
    },
    /// A job has nothing left of its retry budget for now. Told once.
    JobBudgetSpent(JobId),
    /// The attempts on a server have nothing left of its retry budget for now. Told once.
    ServerBudgetSpent(ServerId),
    /// Members of a group began with different observations, though they were reset alike: the server
    /// drops the seed, or its observations hold something of their own. Told once a job.
    FirstObservationsDiffer {
        /// The job.
        job: JobId,
        /// The first group in which it was seen.
        group: u64,
    },
    /// A server gets no new sessions for a while: it does unlike the rest of its pool.
    ServerEjected {
        /// The server.
        server: ServerId,
        /// In what.
        why: Outlier,
        /// For how long, until it is probed.
        rest: Duration,
    },
    /// A server that was ejected did well on its probe.
    ServerReturned(ServerId),
    /// A task is not tried again, since servers died while they were at it.
    Quarantined(Failure),
    /// A version that was announced for a job is now the job's. Told of each that was not replaced by a
    /// larger one while it waited.
    VersionCurrent {
        /// The job.
        job: JobId,
        /// Its version.
        version: PolicyVersion,
    },
    /// A job whose rounds are drawn outside will soon have no more tasks that it knows of: it waits for
    /// [`Input::Round`]. Told once until one comes.
    RoundWanted(JobId),
    /// A job has ended: its last record, and the last one of its groups, came out before or come out with
    /// this. Told once of each job, also of one that had nothing left to play.
    JobEnded(JobId),
}

/// In what a server does unlike the rest of its pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outlier {
    /// More of its attempts fail.
    Failures,
    /// Its steps take many times as long.
    Latency,
}
