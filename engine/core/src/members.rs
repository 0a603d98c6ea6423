//! Which group the next member comes from.

use envmill_protocol::ServerId;

use crate::{GroupPlacement, Scoring, Time, groups::Group, job::Job};

/// The most groups that are being filled at one time, so that each session finds a member that is to
/// be played on its server.
const FILLING_MAX: usize = 64;

impl Job {
    /// Whether an episode may be started that was not before.
    pub(crate) fn may_start_new(&self) -> bool {
        let may_begin = self.may_begin() && self.knows_next();
        self.unstarted > 0 && (self.may_fill() || may_begin) && !self.is_held
    }

    /// Whether there is a member to start of a group that has begun.
    fn may_fill(&self) -> bool {
        let must_fill = match self.options.scoring {
            Scoring::External { whole_groups, .. } => whole_groups,
            Scoring::Environment => false,
        };
        (must_fill || self.may_start()) && self.has_begun_group()
    }

    /// Whether the task of what it would begin next is known.
    fn knows_next(&self) -> bool {
        self.knows_next_task() || self.group_to_take_up().is_some()
    }

    /// Whether nothing of the job keeps groups that have not begun, or episodes without groups, from
    /// being started.
    fn may_begin(&self) -> bool {
        self.may_start() && !self.is_slowed
    }

    /// Whether a group that has begun has members to start.
    pub(crate) fn has_begun_group(&self) -> bool {
        self.filling.iter().any(|&group| self.has_begun(group))
    }

    /// The first of the groups to be filled that an earlier run has begun, and this one has not.
    pub(crate) fn group_to_take_up(&self) -> Option<u64> {
        self.filling.iter().copied().find(|&group| !self.has_begun(group))
    }

    fn has_begun(&self, group: u64) -> bool {
        self.groups.get(&group).is_some_and(|group| group.has_begun)
    }

    /// Whether neither the scorer nor a version has members wait that have not been started.
    fn may_start(&self) -> bool {
        let scorer_has_room = match self.options.scoring {
            Scoring::Environment => true,
            Scoring::External { most, .. } => self.scoring < most.max(1),
        };
        scorer_has_room && self.versions.pending.is_none()
    }

    /// The group of the next member to start, and whether it was opened for that. There is one:
    /// `unstarted` is not 0, and without memory for another group one has begun. The session for it is on
    /// `server`, if there is one, of `pool` servers; without one it is only to be recorded.
    pub(crate) fn next_member_group(
        &mut self,
        server: Option<ServerId>,
        pool: usize,
        has_memory: bool,
        now: Time,
    ) -> (u64, bool) {
        let Some(options) = self.options.group else {
            self.pass_begun();
            let episode = self.next_group;
            self.next_group += 1;
            self.pass_begun();
            return (episode, false);
        };
        let window = match options.placement {
            GroupPlacement::Any => 1,
            _ => pool.clamp(1, FILLING_MAX),
        };
        self.pass_begun();
        let torn = self.group_to_take_up();
        let may_open = (torn.is_some() || self.next_group < self.groups_total)
            && match self.filling.iter().filter(|&&group| self.has_begun(group)).count() {
                0 => true,
                begun => has_memory && self.may_begin() && self.knows_next() && begun < window,
            };
        let mut begun = self.filling.iter().copied().filter(|&group| self.has_begun(group));
        let found = match (options.placement, server) {
            (_, None) => self.filling.first().copied(),
            (GroupPlacement::Any, _) => begun.next(),
            (GroupPlacement::Together, Some(server)) => {
                begun.find(|&group| self.home(group) == Some(server))
            }
            (GroupPlacement::Spread, Some(server)) => {
                begun.find(|&group| self.placed(group, server) == 0)
            }
        };
        let (group, opened) = match (found, torn) {
            (Some(group), _) => (group, false),
            (None, Some(torn)) if may_open => (torn, false),
            (None, None) if may_open => (self.open_group(now), true),
            // The window is full of groups that want another server: the session is not wasted.
            (None, _) => (self.second_best(server), false),
        };
        if let (Some(server), Some(group)) = (server, self.groups.get_mut(&group)) {
            match group.placed.iter_mut().find(|(placed, _)| *placed == server) {
                Some((_, members)) => *members += 1,
                None => group.placed.push((server, 1)),
            }
        }
        (group, opened)
    }

    /// Goes on to the first group that was not begun, by this run or an earlier one.
    pub(crate) fn pass_begun(&mut self) {
        while self.next_group < self.groups_total && self.was_begun(self.next_group) {
            self.next_group += 1;
        }
    }

    fn open_group(&mut self, now: Time) -> u64 {
        let number = self.next_group;
        self.next_group += 1;
        self.pass_begun();
        let task = self.draw(number);
        self.groups.insert(number, Group::new(task, now));
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
        let begun = self.filling.iter().copied().filter(|&group| self.has_begun(group));
        begun.min_by_key(|&group| on(group)).unwrap_or_default()
    }
}
