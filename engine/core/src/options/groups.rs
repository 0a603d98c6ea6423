//! Groups: several episodes of one task.

use std::time::Duration;

use crate::OptionsError;

/// The most members of a group, samples and oversampled ones together.
pub(crate) const MEMBERS_MAX: u32 = 4096;

/// Episodes of the same task with the same seed, played as groups. Everything that makes a group
/// anything else than its samples played one beside the other is off by default: to cut at k of n
/// favours short episodes, and to duplicate favours servers that are fast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupOptions {
    /// Samples of each group; [`JobOptions::episodes`](crate::JobOptions::episodes) must be a
    /// multiple of it. 1 to 4,096.
    pub samples: u32,
    /// Members started beyond the samples, so that the slowest need not be waited for. They have
    /// records, too, and count as requested. Default 0.
    pub oversample: u32,
    /// With so many usable members (completed or truncated, and scored) a group is complete: members
    /// under way are cancelled as `cut`. Default: as many as `samples`; without oversampling nothing
    /// is then ever cut.
    pub complete_at: Option<u32>,
    /// Drops whole groups after they were scored. Default none.
    pub filter: GroupFilter,
    /// The most groups started in place of filtered ones, over the whole job. Default 0.
    pub refill_max: u32,
    /// From the start of a group's first member; past it, members that have not ended are cancelled
    /// as `group_deadline`. Default none.
    pub deadline: Option<Duration>,
    /// Whether members that take much longer than the others get a second attempt beside the first;
    /// the first one to finish is recorded. Default off. Each spends from the retry budget and counts
    /// against the attempts at its episode.
    pub duplicate_stragglers: bool,
    /// On which servers the members of a group are played. Default any.
    pub placement: GroupPlacement,
}

impl Default for GroupOptions {
    fn default() -> Self {
        Self {
            samples: 1,
            oversample: 0,
            complete_at: None,
            filter: GroupFilter::None,
            refill_max: 0,
            deadline: None,
            duplicate_stragglers: false,
            placement: GroupPlacement::Any,
        }
    }
}

impl GroupOptions {
    /// Members of each group: samples and oversampled ones.
    #[must_use]
    pub const fn members(&self) -> u32 {
        self.samples.saturating_add(self.oversample)
    }

    /// With so many usable members a group is complete, and the rest is cut.
    #[must_use]
    pub fn target(&self) -> u32 {
        self.complete_at.unwrap_or(self.samples).min(self.members())
    }

    pub(crate) fn check(&self, episodes: u64) -> Result<(), OptionsError> {
        if self.samples == 0 {
            return Err(OptionsError::Zero("the number of samples in a group"));
        }
        if self.complete_at == Some(0) {
            return Err(OptionsError::Zero("the number of members that completes a group"));
        }
        if self.members() > MEMBERS_MAX {
            return Err(OptionsError::Members { asked: self.members(), most: MEMBERS_MAX });
        }
        if let Some(complete_at) = self.complete_at.filter(|&k| k > self.members()) {
            return Err(OptionsError::CompleteAt { complete_at, members: self.members() });
        }
        if !episodes.is_multiple_of(u64::from(self.samples)) {
            return Err(OptionsError::Samples { episodes, samples: self.samples });
        }
        if self.filter != GroupFilter::None && self.target() < 2 {
            return Err(OptionsError::NoVariance);
        }
        Ok(())
    }
}

/// What drops whole groups.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GroupFilter {
    /// Nothing.
    #[default]
    None,
    /// Usable members that all have the same reward (or all none, or that are alone): there is
    /// nothing to learn from them by comparison. Members wait for their records until the whole group
    /// is decided.
    ZeroVariance,
}

impl GroupFilter {
    /// The name in records and configurations.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::ZeroVariance => "zero-variance",
        }
    }
}

/// On which servers the members of a group are played, as far as there is room: no session waits or
/// stays unused for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GroupPlacement {
    /// Wherever a session is free.
    #[default]
    Any,
    /// Each on another server, so that one server's peculiarity does not make a whole group.
    Spread,
    /// All on one, for servers that keep something per task.
    Together,
}

impl GroupPlacement {
    /// The name in configurations.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::Spread => "spread",
            Self::Together => "together",
        }
    }
}
