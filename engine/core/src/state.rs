//! The life of an episode, as one table.

/// Where an episode is. The last six are its ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Waiting for a session.
    Queued,
    /// Its session's connection is being made.
    Opening,
    /// Its reset is out.
    Resetting,
    /// The policy or the external driver has the turn.
    AwaitingPolicy,
    /// A step is out, or an external turn is open.
    Stepping,
    /// Held between two turns (no credit, a paused job).
    Paused,
    /// It was played to its end; what follows needs no session.
    Played,
    /// A scorer is at work.
    Scoring,
    /// Its score stands; it waits for its group to be decided.
    Scored,
    /// Terminal: the environment ended it.
    Completed,
    /// Terminal: a limit ended it.
    Truncated,
    /// Terminal: its attempts failed.
    Failed,
    /// Terminal: it was given up.
    Cancelled,
    /// Terminal: too old for the job.
    Stale,
    /// Terminal: dropped with its group.
    Filtered,
}

/// What moves an episode on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Trigger {
    /// It got a session that must be opened first.
    OpenSent,
    /// It got a session, or its session stands: the reset went out.
    ResetSent,
    /// The first observation is there.
    TurnOpened,
    /// The policy decided (or an external turn began): a step is out.
    StepSent,
    /// The step was answered and the episode goes on.
    Stepped,
    /// It may not go on for now.
    Held,
    /// It may go on.
    Released,
    /// It reached its end.
    Ended,
    /// A scorer takes it.
    ScoringBegan,
    /// Its score stands, and its group is not decided yet.
    Scored,
    /// The session was refused before it began; not the episode's fault.
    Refused,
    /// The attempt failed and another follows.
    Retried,
    /// Recorded as completed.
    Complete,
    /// Recorded as truncated.
    Truncate,
    /// Recorded as failed.
    Fail,
    /// Recorded as cancelled.
    Cancel,
    /// Recorded as stale.
    Expire,
    /// Recorded as filtered.
    Filter,
}

/// One row of the table: in any of the states `from`, `trigger` leads to `to`.
#[derive(Clone, Copy, Debug)]
pub struct Transition {
    /// What happens.
    pub trigger: Trigger,
    /// Where it may happen.
    pub from: &'static [State],
    /// Where it leads.
    pub to: State,
}

macro_rules! transitions {
    ($($trigger:ident($($from:ident)|+ => $to:ident);)+) => {
        /// The whole life of an episode. What is not here does not happen.
        pub const TRANSITIONS: &[Transition] = &[
            $(Transition {
                trigger: Trigger::$trigger,
                from: &[$(State::$from),+],
                to: State::$to,
            }),+
        ];

        impl State {
            /// Where `trigger` leads from here; `None` if it cannot happen here.
            #[must_use]
            pub const fn on(self, trigger: Trigger) -> Option<Self> {
                match (self, trigger) {
                    $($((Self::$from, Trigger::$trigger) => Some(Self::$to),)+)+
                    _ => None,
                }
            }
        }
    };
}

transitions! {
    OpenSent(Queued => Opening);
    ResetSent(Queued | Opening => Resetting);
    TurnOpened(Resetting => AwaitingPolicy);
    StepSent(AwaitingPolicy => Stepping);
    Stepped(Stepping => AwaitingPolicy);
    Held(AwaitingPolicy => Paused);
    Released(Paused => AwaitingPolicy);
    Ended(Resetting | AwaitingPolicy | Stepping | Paused => Played);
    ScoringBegan(Played => Scoring);
    Scored(Played | Scoring => Scored);
    Refused(Opening | Resetting => Queued);
    Retried(Opening | Resetting | AwaitingPolicy | Stepping | Paused => Queued);
    Complete(Played | Scoring | Scored => Completed);
    Truncate(Played | Scoring | Scored => Truncated);
    Fail(Queued | Opening | Resetting | AwaitingPolicy | Stepping | Paused | Played | Scoring | Scored => Failed);
    Cancel(Queued | Opening | Resetting | AwaitingPolicy | Stepping | Paused | Played | Scoring | Scored => Cancelled);
    Expire(Queued | AwaitingPolicy | Stepping | Paused | Played | Scoring | Scored => Stale);
    Filter(Played | Scoring | Scored => Filtered);
}

impl State {
    /// How many states there are.
    pub const COUNT: usize = 15;

    /// Every state, in the order of their discriminants.
    pub const ALL: [Self; Self::COUNT] = [
        Self::Queued,
        Self::Opening,
        Self::Resetting,
        Self::AwaitingPolicy,
        Self::Stepping,
        Self::Paused,
        Self::Played,
        Self::Scoring,
        Self::Scored,
        Self::Completed,
        Self::Truncated,
        Self::Failed,
        Self::Cancelled,
        Self::Stale,
        Self::Filtered,
    ];

    /// Whether this is an end.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        self as usize >= Self::Completed as usize
    }

    /// The name in metrics and on displays.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Opening => "opening",
            Self::Resetting => "resetting",
            Self::AwaitingPolicy => "awaiting_policy",
            Self::Stepping => "stepping",
            Self::Paused => "paused",
            Self::Played => "played",
            Self::Scoring => "scoring",
            Self::Scored => "scored",
            Self::Completed => "completed",
            Self::Truncated => "truncated",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Stale => "stale",
            Self::Filtered => "filtered",
        }
    }
}
