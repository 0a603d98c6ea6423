//! What goes into the core and what comes out.

use std::time::Duration;

use envmill_protocol::{
    Command, Decision, Event, Failure, Generated, Generation, JobId, Phase, PolicyVersion,
    ServerId, Slot, Trajectory, Turn,
    record::{End, Step},
};

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
    /// The trainer has a new policy version; smaller ones than before are ignored.
    PolicyVersion(PolicyVersion),
    /// Start no more episodes of this job: those waiting are cancelled, those under way finish.
    Drain(JobId),
    /// Finish nothing more of this job: all that is unfinished is cancelled.
    Cancel(JobId),
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
}
