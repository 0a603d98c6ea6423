//! The worker of a run, whichever kind it is.

use std::time::Duration;

use envmill_native::NativeWorker;
use envmill_openenv::OpenEnvWorker;
use envmill_protocol::{Command, Event};
use envmill_python_worker::PythonWorker;
use envmill_workers::{ToolSteps, Waker, Worker};

/// The worker of a run.
pub enum FleetWorker {
    /// Servers over sockets.
    Remote(Box<ToolSteps<OpenEnvWorker>>),
    /// Native environments in this process.
    Native(Box<NativeWorker>),
    /// A Python environment in worker processes.
    Python(Box<ToolSteps<PythonWorker>>),
}

impl FleetWorker {
    /// The most sessions that were open at once, pooled idle ones included.
    #[must_use]
    pub fn sessions_peak(&self) -> u64 {
        match self {
            Self::Remote(worker) => worker.metrics().sockets_open_peak as u64,
            Self::Native(worker) => worker.sessions_peak() as u64,
            Self::Python(worker) => worker.metrics().sessions_peak.into(),
        }
    }

    /// Has steps that call tools go beside the actions, where the environment has others.
    pub(crate) fn call_tools_beside(&mut self) {
        match self {
            Self::Remote(worker) => worker.call_tools_beside(),
            Self::Python(worker) => worker.call_tools_beside(),
            // They have no tools.
            Self::Native(_) => {}
        }
    }

    fn as_worker(&mut self) -> &mut dyn Worker {
        match self {
            Self::Remote(worker) => &mut **worker,
            Self::Native(worker) => &mut **worker,
            Self::Python(worker) => &mut **worker,
        }
    }
}

impl Worker for FleetWorker {
    fn submit(&mut self, batch: &mut Vec<Command>) {
        self.as_worker().submit(batch);
    }

    fn completions(&mut self, events: &mut Vec<Event>, wait: Duration) {
        self.as_worker().completions(events, wait);
    }

    fn waker(&self) -> Waker {
        match self {
            Self::Remote(worker) => worker.waker(),
            Self::Native(worker) => worker.waker(),
            Self::Python(worker) => worker.waker(),
        }
    }
}
