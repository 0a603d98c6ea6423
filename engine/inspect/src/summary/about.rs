//! What stands around records.

use envmill_protocol::record::{FirstObservations, GroupOutcome, GroupRecord};

use crate::Tally;

/// Where the records of a summary come from.
#[derive(Clone, Debug, Default)]
pub struct About {
    /// The files, in the order in which they were read.
    pub files: Vec<FileAbout>,
    /// The jobs whose `job.json` lies beside the files.
    pub jobs: Vec<JobAbout>,
    /// The records of groups that lie beside the files.
    pub group_lines: GroupLines,
    /// How many records were read, those included that the filters leave out.
    pub read: u64,
    /// Reading was cut short by Ctrl-C.
    pub is_interrupted: bool,
}

/// One file.
#[derive(Clone, Debug, Default)]
pub struct FileAbout {
    /// Its path, as given or found.
    pub path: String,
    /// `jsonl`, `arrow`, `parquet` or `episode-record`.
    pub form: &'static str,
    /// Its size on disk.
    pub bytes: u64,
    /// How many records were read of it.
    pub records: u64,
    /// Why there are no more, if something is wrong.
    pub problem: Option<String>,
    /// Whether that is a last record that was cut off in mid-write, and all before it is good.
    pub is_torn: bool,
}

/// A `job.json`.
#[derive(Clone, Debug, Default)]
pub struct JobAbout {
    /// The job's name.
    pub name: String,
    /// What was played.
    pub environments: Vec<String>,
    /// Who played.
    pub policy: String,
    /// How many episodes were asked for; `None` where it does not say.
    pub episodes: Option<u64>,
}

/// What lines of `groups.jsonl` come to.
#[derive(Clone, Debug, Default)]
pub struct GroupLines {
    pub(super) complete: u64,
    pub(super) short: u64,
    pub(super) filtered: u64,
    pub(super) refills: u64,
    pub(super) begin_differently: u64,
    pub(super) steps_used: u64,
    pub(super) steps_wasted: u64,
    pub(super) filters: Tally<String>,
}

impl GroupLines {
    /// Takes a group into account.
    pub fn add(&mut self, group: &GroupRecord) {
        *match group.outcome {
            GroupOutcome::Complete => &mut self.complete,
            GroupOutcome::Short => &mut self.short,
            GroupOutcome::Filtered => &mut self.filtered,
        } += 1;
        self.refills += u64::from(group.refill_of.is_some());
        self.begin_differently += u64::from(group.first_observations == FirstObservations::Differ);
        self.steps_used += group.steps_used;
        self.steps_wasted += group.steps_wasted;
        if !group.filter.is_empty() {
            self.filters.add(&group.filter, 1);
        }
    }

    /// How many there were.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.complete + self.short + self.filtered
    }
}
