//! Which group the next member comes from.

use envmill_protocol::{EpisodeIndex, ServerId};

use crate::{GroupPlacement, Scoring, Time, groups::Group, job::Job};

/// The most groups that are being filled at one time, so that each session finds a member that is to
/// be played on its server.
const FILLING_MAX: usize = 64;

impl Job {
    /// Whether an episode may be started that was not before.
    pub(crate) fn may_start_new(&self) -> bool {
        let must_fill = match self.options.scoring {
            Scoring::External { whole_groups, .. } => whole_groups && !self.filling.is_empty(),
            Scoring::Environment => false,
        };
        self.unstarted > 0 && (must_fill || self.may_begin()) && !self.is_held
    }

    /// Whether nothing of the job keeps groups that have not begun, or episodes without groups, from
    /// being started.
    fn may_begin(&self) -> bool {
        let scorer_has_room = match self.options.scoring {
            Scoring::Environment => true,
            Scoring::External { most, .. } => self.scoring < most.max(1),
        };
        scorer_has_room && self.versions.pending.is_none()
    }

    /// The group of the next member to start, and whether it was opened for that. There is one:
    /// `unstarted` is not 0. The session for it is on `server`, if there is one, of `pool` servers.
    pub(crate) fn next_member_group(
        &mut self,
        server: Option<ServerId>,
        pool: usize,
        now: Time,
    ) -> (u64, bool) {
        let Some(options) = self.options.group else {
            while self.options.recorded.contains(EpisodeIndex(self.next_group)) {
                self.next_group += 1;
            }
            self.next_group += 1;
            return (self.next_group - 1, false);
        };
        let window = match options.placement {
            GroupPlacement::Any => 1,
            _ => pool.clamp(1, FILLING_MAX),
        };
        while self.next_group < self.groups_total && self.was_begun(self.next_group) {
            self.next_group += 1;
        }
        let may_open = self.next_group < self.groups_total
            && (self.filling.is_empty() || self.may_begin() && self.filling.len() < window);
        let found = match (options.placement, server) {
            (GroupPlacement::Any, _) | (_, None) => self.filling.first().copied(),
            (GroupPlacement::Together, Some(server)) => {
                self.filling.iter().copied().find(|&group| self.home(group) == Some(server))
            }
            (GroupPlacement::Spread, Some(server)) => {
                self.filling.iter().copied().find(|&group| self.placed(group, server) == 0)
            }
        };
        let (group, opened) = match found {
            Some(group) => (group, false),
            None if may_open => (self.open_group(now), true),
            // The window is full of groups that want another server: the session is not wasted.
            None => (self.second_best(server), false),
        };
        if let (Some(server), Some(group)) = (server, self.groups.get_mut(&group)) {
            match group.placed.iter_mut().find(|(placed, _)| *placed == server) {
                Some((_, members)) => *members += 1,
                None => group.placed.push((server, 1)),
            }
        }
        (group, opened)
    }

    fn open_group(&mut self, now: Time) -> u64 {
        let number = self.next_group;
        self.next_group += 1;
        self.groups.insert(number, Group::new(now));
        self.filling.push(number);
        number
    }

    /// The server that a group is played on if it is played together.
    fn home(&self, group: u64) -> Option<ServerId> {
        self.groups.get(&group)?.placed.first().map(|(server, _)| *server)
    }

    fn placed(&self, group: u64, server: ServerId) -> u32 {
        let placed = self.groups.get(&group).map_or(&[][..], |group| &group.placed);
        placed.iter().find(|(other, _)| *other == server).map_or(0, |(_, members)| *members)
    }

    /// The group being filled that has the fewest members on `server`.
    fn second_best(&self, server: Option<ServerId>) -> u64 {
        let on = |group: u64| server.map_or(0, |server| self.placed(group, server));
        self.filling.iter().copied().min_by_key(|&group| on(group)).unwrap_or_default()
    }
}
