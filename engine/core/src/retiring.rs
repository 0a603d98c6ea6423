//! Jobs that have ended: what is told of them, and what is kept.
//!
//! A core may live for months and see many jobs. Those that have ended are passed over by everything that
//! looks at jobs, and keep no more than the words and numbers that they were asked for with.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use bytes::Bytes;
use envmill_protocol::JobId;

use crate::{Core, Note, Outputs, Tasks, job::Job, rounds::Draws};

impl Core {
    /// Tells of the jobs that have nothing left to play or to record, once, and forgets what is large of
    /// them.
    pub(crate) fn retire(&mut self, outputs: &mut Outputs) {
        let mut live = std::mem::take(&mut self.live);
        live.retain(|&job| {
            if !self.jobs[job].is_finished() {
                return true;
            }
            // Nothing is in flight, so what it waited for has come.
            self.look_at_version(job, outputs);
            self.jobs[job].end();
            outputs.notes.push(Note::JobEnded(JobId(u32::try_from(job).unwrap_or(u32::MAX))));
            false
        });
        self.live = live;
    }
}

impl Job {
    fn end(&mut self) {
        self.is_ended = true;
        self.lacks_memory = false;
        self.queue = VecDeque::new();
        self.groups = BTreeMap::new();
        self.filling = Vec::new();
        self.refills = Vec::new();
        self.draws = Draws::default();
        self.paused = Vec::new();
        let options = &mut self.options;
        options.reset_parameters = Bytes::new();
        options.tasks = Tasks::default();
        options.recorded = Arc::default();
        options.recorded_groups = Arc::default();
    }
}
