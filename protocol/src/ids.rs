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
    ///
    /// It is two numbers in one: the upper 16 bits count lineages, the lower 48 bits the trainer's steps
    /// within one. A trainer that goes back to a checkpoint begins a new lineage, so that what it makes
    /// from there on is newer than all that it gave up, though the steps are counted over. A trainer that
    /// never goes back may take the number for its steps.
    PolicyVersion(u64)
}

impl PolicyVersion {
    /// The largest step of a lineage.
    pub const STEP_MAX: u64 = (1 << Self::STEP_BITS) - 1;

    const STEP_BITS: u32 = 48;

    /// The version after so many steps of a lineage; `None` if the step is over
    /// [`STEP_MAX`](Self::STEP_MAX).
    #[must_use]
    pub const fn new(lineage: u16, step: u64) -> Option<Self> {
        if step > Self::STEP_MAX {
            return None;
        }
        Some(Self((lineage as u64) << Self::STEP_BITS | step))
    }

    /// The lineage: how often the trainer has gone back to a checkpoint before.
    #[must_use]
    pub const fn lineage(self) -> u16 {
        (self.0 >> Self::STEP_BITS) as u16
    }

    /// The trainer's step, counted within its lineage as the trainer counts.
    #[must_use]
    pub const fn step(self) -> u64 {
        self.0 & Self::STEP_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_a_lineage_and_a_step() {
        let version = |lineage, step| PolicyVersion::new(lineage, step).unwrap();
        assert_eq!(version(0, 7), PolicyVersion(7));
        assert_eq!(version(1, 0), PolicyVersion(1 << 48));
        for (lineage, step) in [(0, 0), (3, 12), (u16::MAX, PolicyVersion::STEP_MAX)] {
            let version = version(lineage, step);
            assert_eq!((version.lineage(), version.step()), (lineage, step));
        }
        assert_eq!(PolicyVersion::new(0, PolicyVersion::STEP_MAX + 1), None);
    }

    #[test]
    fn a_new_lineage_is_newer_whatever_its_step() {
        let old = PolicyVersion::new(1, 900).unwrap();
        let new = PolicyVersion::new(2, 100).unwrap();
        assert!(old < new);
    }
}
