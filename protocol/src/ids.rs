//! Identifiers. Each is a newtype, so that a slot cannot be passed where a server is meant.

use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id! {
    /// A place for one session, numbered densely from 0 by the engine and reused after the session
    /// is gone. A worker may index a table with it.
    Slot(u32)
}

id! {
    /// Counts the commands sent to a slot, wrapping. An event echoes the generation of the command
    /// it answers; an event that answers no command (a session lost while idle) carries that of the
    /// last command its worker took. What carries any other generation is late or doubled, and is
    /// ignored by the engine.
    Generation(u32)
}

impl Generation {
    /// The generation of the slot's next command.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.wrapping_add(1))
    }
}

id! {
    /// An environment server of a pool (for OpenEnv: one URL), numbered from 0 in the order of the
    /// configuration.
    ServerId(u32)
}

id! {
    /// A job: one request for episodes, numbered from 0 within one engine.
    JobId(u32)
}

id! {
    /// The number of an episode within its job, from 0.
    EpisodeIndex(u64)
}

id! {
    /// A version of the policy's weights, announced by the trainer and never decreasing; 0 until
    /// something is announced.
    PolicyVersion(u64)
}

impl PolicyVersion {
    const STEP_BITS: u32 = 48;

    /// The version `step` of a lineage; `None` if the step does not fit in 48 bits.
    #[must_use]
    pub const fn new(lineage: u16, step: u64) -> Option<Self> {
        if step >> Self::STEP_BITS != 0 {
            return None;
        }
        Some(Self((lineage as u64) << Self::STEP_BITS | step))
    }

    /// How often the trainer had gone back to a checkpoint.
    #[must_use]
    pub const fn lineage(self) -> u16 {
        (self.0 >> Self::STEP_BITS) as u16
    }

    /// The version within its lineage.
    #[must_use]
    pub const fn step(self) -> u64 {
        self.0 & ((1 << Self::STEP_BITS) - 1)
    }
}
