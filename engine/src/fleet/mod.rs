//! Who steps a run's environments: started, asked what they serve, looked after and ended.
//!
//! A run has one kind of environment: servers that are spoken with over sockets, native environments in
//! this process, or a Python environment in worker processes. What differs between them is here.

mod local;
mod remote;
mod worker;

use std::path::{Path, PathBuf};

use bytes::Bytes;
use envmill_core::Task;
use envmill_openenv::Tool;

pub use self::worker::FleetWorker;
pub(crate) use self::{local::python_options, remote::Remote};
use crate::{
    children::Usage,
    config::{Local, RunOptions, Source},
    driver::{Control, Look},
    harness::HarnessOptions,
    report,
    run::RunError,
    tasks,
};

/// Where the output of server or worker number `index` goes.
fn log(logs: &Path, index: usize) -> PathBuf {
    logs.join(format!("{index}.log"))
}

/// What the core is told of a server.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    /// Its URL, or what stands for it.
    pub(crate) name: String,
    /// What tells its environment from a changed one.
    pub(crate) fingerprint: String,
}

/// The servers of a run.
pub(crate) struct Fleet {
    /// All of them, in the order of their ids.
    pub(crate) members: Vec<Member>,
    /// The JSON Schema of an action.
    pub(crate) action_schema: Bytes,
    /// Those that are spoken with over sockets.
    pub(crate) remote: Option<Remote>,
}

impl Fleet {
    /// Starts what is to be started, and asks it what it serves.
    ///
    /// What it starts writes to `logs/0.log` and so on, in a directory that is made if need be.
    /// `is_interrupted` is asked while servers start, and news of them go to `control`. To be called on
    /// the thread that will step the worker.
    pub(crate) fn start(
        options: &RunOptions,
        control: &Control,
        logs: &Path,
        is_interrupted: &dyn Fn() -> bool,
    ) -> Result<(Self, FleetWorker), RunError> {
        match options.sources.first() {
            Some(Source::Local(Local::Native(native))) => {
                local::native(native, options.sources.len())
            }
            Some(Source::Local(source)) => local::python(source, options, logs),
            _ => Remote::start(options, control, logs, is_interrupted),
        }
    }

    /// The places of a harness's programs, which need no starting.
    pub(crate) fn of_harness(options: &HarnessOptions) -> (Self, FleetWorker) {
        local::harness(options)
    }

    /// The tasks of a split, as the first server tells of it.
    pub(crate) fn tasks_of(
        &self,
        split: &str,
        worker: &mut FleetWorker,
    ) -> Result<Vec<Task>, RunError> {
        match &self.remote {
            Some(remote) => remote.tasks_of(split),
            None => {
                let count = local::num_tasks(split, worker)?;
                tasks::of_split(split, count, |range| local::task_range(split, range, worker))
            }
        }
    }

    /// The tools of the environment.
    pub(crate) fn tools(&self, worker: &mut FleetWorker) -> Result<Vec<Tool>, RunError> {
        match &self.remote {
            Some(remote) => remote.tools(),
            None => local::tools(&self.members, worker),
        }
    }

    /// Looks after the servers, with the news of a batch.
    pub(crate) fn look_after(
        &mut self,
        at: &mut Look<'_, FleetWorker>,
        options: &RunOptions,
        control: &Control,
    ) {
        match (&mut self.remote, &mut *at.worker) {
            (Some(remote), FleetWorker::Remote(worker)) => {
                remote.look_after(worker, at.notes, options, control);
            }
            (_, FleetWorker::Python(worker)) => {
                for server in worker.take_restarted() {
                    control.send(envmill_core::Input::ServerReady(server));
                }
            }
            _ => {}
        }
    }

    /// Ends what was started; what it has cost.
    pub(crate) fn stop(self, worker: &FleetWorker) -> report::Children {
        match (self.remote, worker) {
            (Some(remote), _) => remote.stop(),
            (None, FleetWorker::Python(worker)) => {
                let usage = Usage::of_tree(worker.nursery_pid().cast_signed());
                report::Children {
                    cpu_s: usage.cpu.as_secs_f64(),
                    rss_peak_bytes: usage.rss_peak_bytes,
                }
            }
            (None, _) => report::Children::default(),
        }
    }
}
