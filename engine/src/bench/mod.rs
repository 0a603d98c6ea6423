//! `envmill bench`: targets started, measured one after another, and ended.
//!
//! Start at [`run`]. How load is made and what follows from it is the crate `envmill-bench`; here is what it takes
//! from a run: which targets there are and how they are started ([`fleet`](crate::fleet)), and who acts
//! ([`policy`](crate::policy)).

mod actions;
mod local;
mod target;
mod versions;

use std::{
    path::PathBuf,
    time::{Duration, Instant, SystemTime},
};

use envmill_bench::{
    Arrivals, Look, SweepOptions,
    report::{Point, Report, SCHEMA_VERSION, Settings},
};

use self::target::Bench;
use crate::{config::RunOptions, driver::Control};

/// What is measured, and how.
#[derive(Clone, Debug)]
pub struct BenchOptions {
    /// The targets, each as the options of a run on it.
    pub targets: Vec<BenchTarget>,
    /// The numbers of sessions.
    pub sweep: SweepOptions,
    /// Steps a second over all sessions, and how they are spread; `None` for a closed loop.
    pub open: Option<(f64, Arrivals)>,
    /// At each point, before anything counts.
    pub warm_up: Duration,
    /// At each point, what counts.
    pub measure: Duration,
    /// How long the opening of all sessions of a point may take.
    pub opening: Duration,
    /// Whether all sessions of a point are asked for at once.
    pub storm: bool,
    /// The process that serves the targets, where they cannot tell.
    pub server_pid: Option<u32>,
    /// Whether the stock Python client measures, too.
    pub peer: bool,
    /// The interpreter that it runs in.
    pub peer_python: PathBuf,
    /// The command, word by word, without secrets.
    pub command: Vec<String>,
    /// How it is measured, for the report.
    pub settings: Settings,
}

/// A target.
#[derive(Clone)]
pub struct BenchTarget {
    /// As it was given.
    pub name: String,
    /// How it is started and spoken with.
    pub run: RunOptions,
}

impl std::fmt::Debug for BenchTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BenchTarget").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What happens while targets are measured, for displays.
#[derive(Debug)]
pub enum News<'a> {
    /// A target is begun.
    Begins(&'a BenchTarget),
    /// A point goes on.
    Goes(Look),
    /// A point was measured. Of each cause of failures the words of the first are there, too.
    Measured(&'a Point, &'a std::collections::BTreeMap<String, String>),
    /// The peer begins.
    Peer(&'a str),
    /// The target could not be measured, or not to the end.
    Fails(&'a str),
}

/// Measures the targets one after another. `tell` is called some times a second; `control` ends it before its
/// time, and what was measured until then is in the report.
pub fn run(options: &BenchOptions, control: &Control, mut tell: impl FnMut(News<'_>)) -> Report {
    let origin = Instant::now();
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let machine = envmill_bench::machine();
    let mut targets = Vec::new();
    for target in &options.targets {
        if control.interrupts() > 0 {
            break;
        }
        tell(News::Begins(target));
        let bench = Bench { target, options, machine: &machine, control, origin };
        targets.push(target::measure(bench, &mut tell));
    }
    Report {
        schema_version: SCHEMA_VERSION,
        envmill_version: env!("CARGO_PKG_VERSION").into(),
        command: options.command.clone(),
        started_unix_ms: u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX),
        took_s: origin.elapsed().as_secs_f64(),
        interrupted: control.interrupts() > 0,
        machine,
        settings: options.settings.clone(),
        targets,
    }
}
