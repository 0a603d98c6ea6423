//! What an earlier run of a job has left, and what is still to be played.

use std::{collections::BTreeMap, fs, io};

use envmill_core::{EpisodeSet, GroupOptions, RecordedGroups, episode_of, recorded_member};
use envmill_protocol::{
    EpisodeIndex,
    record::{GroupOutcome, read_group_line},
};

use crate::{
    config::RunOptions,
    run::RunError,
    sink::{Claim, DirectoryError, OutputDirectory},
};

/// What is kept of an earlier run.
#[derive(Debug, Default)]
pub(crate) struct Earlier {
    /// The episodes that have their record.
    pub(crate) recorded: EpisodeSet,
    /// What there is of groups.
    pub(crate) groups: RecordedGroups,
    /// The records of groups that stay, as lines.
    pub(crate) group_lines: Vec<u8>,
}

impl Earlier {
    /// Goes through the records of a directory that is to be gone on with; without `--resume` there is
    /// nothing. Nothing is changed yet.
    pub(crate) fn read(
        options: &RunOptions,
        directory: &mut OutputDirectory,
    ) -> Result<Self, RunError> {
        if options.claim != Claim::Resume {
            return Ok(Self::default());
        }
        let Some(group) = options.rules.group else {
            let mut recorded = EpisodeSet::default();
            directory.recover(|record| {
                let index = episode_of(&options.name, &record.trajectory_id);
                if let Some(index) = index.filter(|index| index.0 < options.episodes) {
                    recorded.insert(index);
                }
            })?;
            return Ok(Self { recorded, ..Self::default() });
        };
        let mut lines = GroupLines::read(directory)?;
        let mut earlier = lines.members(options, group, directory)?;
        if lines.drop_torn(&earlier.recorded, group.members()) {
            // The machine went down, not only the run: lines outlived the records of their members.
            earlier = lines.members(options, group, directory)?;
        }
        earlier.groups.filtered = lines.filtered();
        earlier.group_lines = lines.text();
        Ok(earlier)
    }
}

/// The records of groups in the order of the file.
struct GroupLines(Vec<GroupLine>);

struct GroupLine {
    group: u64,
    is_filtered: bool,
    text: Vec<u8>,
}

impl GroupLines {
    /// Whole lines only; what follows the last one is left out.
    fn read(directory: &OutputDirectory) -> Result<Self, RunError> {
        let path = directory.groups();
        let text = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            text => text.map_err(|source| DirectoryError::Unwritable { path, source })?,
        };
        let mut lines = Vec::new();
        for line in text.split_inclusive(|byte| *byte == b'\n') {
            let Ok(record) = read_group_line(line) else { break };
            if line.ends_with(b"\n") {
                lines.push(GroupLine {
                    group: record.group_id,
                    is_filtered: record.outcome == GroupOutcome::Filtered,
                    text: line.to_vec(),
                });
            }
        }
        Ok(Self(lines))
    }

    fn filtered(&self) -> Vec<u64> {
        self.0.iter().filter(|line| line.is_filtered).map(|line| line.group).collect()
    }

    fn text(&self) -> Vec<u8> {
        self.0.iter().flat_map(|line| &line.text).copied().collect()
    }

    /// The recorded members, and those of the groups that have no line.
    fn members(
        &self,
        options: &RunOptions,
        group: GroupOptions,
        directory: &mut OutputDirectory,
    ) -> Result<Earlier, RunError> {
        let members = u64::from(group.members());
        let asked = options.episodes / u64::from(group.samples);
        // A refill begins before the line of the group that it replaces is kept.
        let groups = asked + u64::from(group.refill_max);
        let ended: EpisodeSet = self.0.iter().map(|line| EpisodeIndex(line.group)).collect();
        let (mut recorded, mut open) = (EpisodeSet::default(), BTreeMap::<u64, Vec<_>>::new());
        directory.recover(|record| {
            let index = episode_of(&options.name, &record.trajectory_id);
            let Some(index) = index.filter(|index| index.0 < groups * members) else { return };
            let number = index.0 / members;
            if recorded.insert(index) && !ended.contains(EpisodeIndex(number)) {
                open.entry(number).or_default().push(recorded_member(record));
            }
        })?;
        let groups = RecordedGroups { filtered: Vec::new(), open };
        Ok(Earlier { recorded, groups, group_lines: Vec::new() })
    }

    /// Leaves out the groups that lack a member. True if there were any.
    fn drop_torn(&mut self, recorded: &EpisodeSet, members: u32) -> bool {
        let before = self.0.len();
        self.0.retain(|line| {
            let first = line.group * u64::from(members);
            let is_whole = |sample| recorded.contains(EpisodeIndex(first + u64::from(sample)));
            (0..members).all(is_whole)
        });
        self.0.len() < before
    }
}
