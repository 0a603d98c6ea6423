//! Records of groups as lines of JSON.

use std::{
    collections::VecDeque,
    fs::File,
    io::Write,
    path::{Path, PathBuf},
};

use envmill_protocol::record::{GroupRecord, write_group_line};

use crate::sink::{GroupSink, SinkError};

/// Writes each group's record as one line of JSON (see `docs/record.md`), and not before the records
/// of its members are known to be kept: a group that is in the file has its members in the sink.
///
/// So it works beside any [`Sink`](crate::sink::Sink), which tells how many records it has kept.
/// What waits for that is bounded by the sink's own queue. A file always ends with a whole line: what
/// a failing write left of one is cut off again, and after it nothing more is written.
#[derive(Debug)]
pub struct GroupLines {
    file: File,
    path: PathBuf,
    length: u64,
    /// Groups with the number of records that must be kept before theirs.
    waiting: VecDeque<(u64, GroupRecord)>,
    written: u64,
    failure: Option<SinkError>,
}

impl GroupLines {
    /// Writes behind the end of `file`, which is at `path` and `length` bytes long.
    #[must_use]
    pub fn new(file: File, path: &Path, length: u64) -> Self {
        Self {
            file,
            path: path.to_owned(),
            length,
            waiting: VecDeque::new(),
            written: 0,
            failure: None,
        }
    }
}

impl GroupSink for GroupLines {
    fn submit(&mut self, groups: &mut Vec<GroupRecord>, submitted: u64) {
        self.waiting.extend(groups.drain(..).map(|group| (submitted, group)));
    }

    fn advance(&mut self, kept: u64) {
        if self.waiting.front().is_none_or(|(after, _)| *after > kept) {
            return;
        }
        let (mut text, mut count) = (Vec::new(), 0);
        while self.waiting.front().is_some_and(|(after, _)| *after <= kept) {
            if let Some((_, group)) = self.waiting.pop_front() {
                write_group_line(&mut text, &group);
                count += 1;
            }
        }
        if self.failure.is_some() {
            return;
        }
        match self.file.write_all(&text) {
            Ok(()) => {
                self.length += text.len() as u64;
                self.written += count;
            }
            Err(error) => {
                // The first error is the one to report.
                let _ = self.file.set_len(self.length);
                self.failure = Some(SinkError::new(self.path.clone(), error));
            }
        }
    }

    fn written(&self) -> u64 {
        self.written
    }

    fn failure(&self) -> Option<SinkError> {
        self.failure.clone()
    }

    fn finish(&mut self, kept: u64) {
        self.advance(kept);
        if let Err(error) = self.file.sync_data()
            && self.failure.is_none()
        {
            self.failure = Some(SinkError::new(self.path.clone(), error));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use envmill_protocol::record::{FirstObservations, GroupOutcome, read_group_line};

    fn group(group_id: u64) -> GroupRecord {
        GroupRecord {
            job_id: "job".into(),
            group_id,
            task_id: String::new(),
            environment: "echo".into(),
            seed: None,
            asked: 1,
            oversampled: 0,
            complete_at: 1,
            used: 0,
            outcome: GroupOutcome::Short,
            filter: String::new(),
            refill_of: None,
            first_observations: FirstObservations::Unknown,
            duplicates: 0,
            steps_used: 0,
            steps_wasted: 0,
            tokens_used: 0,
            tokens_wasted: 0,
            started_us: 0,
            ended_us: 0,
            members: Vec::new(),
        }
    }

    #[test]
    fn a_group_is_written_after_its_members() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("groups.jsonl");
        let mut lines = GroupLines::new(File::create(&path).unwrap(), &path, 0);
        lines.submit(&mut vec![group(0)], 4);
        lines.submit(&mut vec![group(1), group(2)], 9);
        lines.advance(3);
        assert_eq!(lines.written(), 0);
        lines.advance(8);
        assert_eq!(lines.written(), 1);
        lines.finish(8);
        let text = std::fs::read(&path).unwrap();
        assert_eq!(read_group_line(&text).unwrap(), group(0));
        lines.finish(9);
        let text = std::fs::read_to_string(&path).unwrap();
        let ids: Vec<u64> =
            text.lines().map(|line| read_group_line(line.as_bytes()).unwrap().group_id).collect();
        assert_eq!(ids, [0, 1, 2]);
    }
}
