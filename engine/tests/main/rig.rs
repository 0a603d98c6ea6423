//! One run of the command against real processes, and what must hold of every such run.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

use envmill_protocol::{
    Trajectory,
    record::{End, content_hash, read_json_line},
};
use envmill_testing::{
    EnvmillCommand, Finished, PythonServer, PythonServerOptions, Running, Watchdog, wait_until,
};
use serde_json::Value;
use tempfile::TempDir;

/// How long a test may take before it counts as hanging. No assertion about speed.
pub(crate) const BOUND: Duration = Duration::from_secs(300);

/// The command that is tested.
pub(crate) const ENVMILL: &str = env!("CARGO_BIN_EXE_envmill");

/// A `bench_env` server that tests share as long as they do it no harm; what is done to connections
/// is done by a proxy of each test's own. It ends with the test process.
pub(crate) fn bench_server() -> &'static PythonServer {
    static SERVER: OnceLock<PythonServer> = OnceLock::new();
    SERVER.get_or_init(|| PythonServer::of("bench_env").unwrap())
}

/// A `quirk_env` server that tests share: what its environments do wrong, they do to themselves.
pub(crate) fn quirk_server() -> &'static PythonServer {
    static SERVER: OnceLock<PythonServer> = OnceLock::new();
    SERVER.get_or_init(|| server_with("quirk_env", &[("MAXS", "256")]))
}

/// A `bench_env` server of the test's own, to be harmed.
pub(crate) fn own_bench_server() -> PythonServer {
    PythonServer::of("bench_env").unwrap()
}

/// A server of `python/servers/` with environment variables.
pub(crate) fn server_with(module: &str, variables: &[(&str, &str)]) -> PythonServer {
    let options = PythonServerOptions::new(module);
    let options = variables.iter().fold(options, |all, (name, value)| all.env(name, value));
    PythonServer::start(options).unwrap()
}

/// A call of `envmill run --json` that has not begun, with an output directory of its own.
pub(crate) struct Job {
    command: EnvmillCommand,
    directory: TempDir,
    watchdog: Watchdog,
}

impl Job {
    /// A job of the test called `name`.
    pub(crate) fn new(name: &str) -> Self {
        let directory = TempDir::new().unwrap();
        let command = EnvmillCommand::new(ENVMILL)
            .args(["run", "--json", "--out"])
            .arg(directory.path().join("run"));
        Self { command, directory, watchdog: Watchdog::start(name, BOUND) }
    }

    /// A job on the server at `url`.
    pub(crate) fn on(name: &str, url: &str) -> Self {
        Self::new(name).args(["--env", url])
    }

    /// Adds arguments.
    pub(crate) fn args<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.command = self.command.args(arguments);
        self
    }

    /// Adds the arguments that stand in `line` with spaces between them.
    pub(crate) fn words(self, line: &str) -> Self {
        self.args(line.split_whitespace())
    }

    /// Sets an environment variable of the command, and so of the servers that it starts.
    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command = self.command.env(name, value);
        self
    }

    /// Runs the command in `directory`.
    pub(crate) fn current_dir(mut self, directory: &Path) -> Self {
        self.command = self.command.current_dir(directory);
        self
    }

    /// Starts it.
    pub(crate) fn start(self) -> Playing {
        Playing {
            running: self.command.start().unwrap(),
            directory: self.directory,
            watchdog: self.watchdog,
        }
    }

    /// Plays it to its end and checks the account.
    pub(crate) fn play(self) -> Played {
        self.start().end()
    }

    /// Runs it where it must be refused before any work: the message on standard error.
    pub(crate) fn refused(self) -> String {
        let out = self.directory.path().join("run");
        let finished = self.command.run().unwrap();
        assert_eq!(finished.code(), Some(2), "{finished:?}");
        assert_eq!(finished.stdout, "", "{finished:?}");
        assert!(!out.join("trajectories.jsonl").exists(), "an empty run was left behind");
        finished.stderr
    }
}

/// A job that runs.
pub(crate) struct Playing {
    pub(crate) running: Running,
    directory: TempDir,
    watchdog: Watchdog,
}

impl Playing {
    /// Waits until at least `count` records are in the file.
    pub(crate) fn wait_for_records(&mut self, count: usize) {
        let path = trajectories(self.directory.path());
        wait_until(&format!("{count} records are there"), BOUND, || {
            assert!(self.running.is_running(), "it ended before {count} records were there");
            fs::read(&path).is_ok_and(|text| text.iter().filter(|&&b| b == b'\n').count() >= count)
        });
    }

    /// Waits for its end and checks the account.
    pub(crate) fn end(self) -> Played {
        let played = self.end_unchecked();
        played.check_account();
        played
    }

    /// Waits for its end.
    pub(crate) fn end_unchecked(self) -> Played {
        let finished = self.running.wait();
        let summary = finished.summary().unwrap();
        let records = read_records(&trajectories(self.directory.path()));
        drop(self.watchdog);
        Played { finished, summary, records, _directory: self.directory }
    }
}

fn trajectories(directory: &Path) -> PathBuf {
    directory.join("run/trajectories.jsonl")
}

/// All records of a file, which must hold whole ones only.
pub(crate) fn read_records(path: &Path) -> Vec<Trajectory> {
    let text = fs::read(path).unwrap();
    assert!(text.is_empty() || text.ends_with(b"\n"), "the last record is cut");
    let lines = text.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| read_json_line(line).unwrap()).collect()
}

/// A job that has ended.
#[derive(Debug)]
pub(crate) struct Played {
    pub(crate) finished: Finished,
    pub(crate) summary: Value,
    pub(crate) records: Vec<Trajectory>,
    _directory: TempDir,
}

impl Played {
    /// The exit status.
    pub(crate) fn code(&self) -> Option<i32> {
        self.finished.code()
    }

    /// One of the summary's counts of episodes.
    pub(crate) fn episodes(&self, end: &str) -> u64 {
        self.summary["episodes"][end].as_u64().unwrap()
    }

    /// One of the summary's numbers, by its path.
    pub(crate) fn number(&self, pointer: &str) -> f64 {
        self.summary.pointer(pointer).and_then(Value::as_f64).unwrap()
    }

    /// The causes of failed episodes in the summary.
    pub(crate) fn failures(&self) -> BTreeMap<String, u64> {
        serde_json::from_value(self.summary["failures"].clone()).unwrap()
    }

    /// What must hold of every run that was not cut: each requested episode has exactly one record,
    /// and the summary, the file and the exit status say the same.
    pub(crate) fn check_account(&self) {
        let requested = self.episodes("requested");
        let by_end = |kind: &str| self.records.iter().filter(|r| r.end.name() == kind).count();
        for end in ["completed", "truncated", "failed", "cancelled"] {
            assert_eq!(by_end(end) as u64, self.episodes(end), "{end}: {self:#?}");
        }
        assert_eq!(self.records.len() as u64, requested, "{}", self.summary);
        let ids: BTreeSet<_> = self.records.iter().map(|r| &r.trajectory_id).collect();
        assert_eq!(ids.len(), self.records.len(), "an episode has two records");
        let mut failures = BTreeMap::new();
        for record in &self.records {
            check_record(record);
            if let End::Failed(failure) = &record.end {
                *failures.entry(failure.kind.name()).or_default() += 1;
            }
        }
        assert_eq!(self.failures(), failures, "{}", self.summary);
        let code = if failures.is_empty() { 0 } else { 3 };
        assert_eq!(self.code(), Some(code), "{}\n{}", self.summary, self.finished.stderr);
    }

    /// Checks that every episode ended without a failure.
    pub(crate) fn all_played(&self) {
        assert_eq!(self.failures(), BTreeMap::new(), "{}", self.finished.stderr);
        assert_eq!(self.episodes("cancelled"), 0, "{}", self.summary);
        assert_eq!(self.code(), Some(0));
    }

    /// Checks that every episode failed for this one cause.
    pub(crate) fn all_failed(&self, cause: &str) {
        let all = BTreeMap::from([(cause.to_owned(), self.episodes("requested"))]);
        assert_eq!(self.failures(), all, "{:#?}", self.records[0].end);
    }

    /// Checks on records of `bench_env` that no answer was lost, doubled or taken for another's: the
    /// environment counts its steps.
    pub(crate) fn steps_in_order(&self) {
        for record in &self.records {
            let counted: Vec<_> = record
                .steps
                .iter()
                .map(|step| {
                    let observation: Value =
                        serde_json::from_slice(&step.observed.observation).unwrap();
                    observation["step"].as_u64().unwrap()
                })
                .collect();
            let expected: Vec<_> = (1..=record.steps.len() as u64).collect();
            assert_eq!(counted, expected, "{}", record.trajectory_id);
        }
    }

    /// How many episodes took more than one attempt.
    pub(crate) fn retried(&self) -> usize {
        self.records.iter().filter(|record| record.attempts.len() > 1).count()
    }

    /// The causes of all attempts that failed, those of episodes that were played later included.
    pub(crate) fn attempt_causes(&self) -> BTreeSet<&str> {
        let attempts = self.records.iter().flat_map(|record| &record.attempts);
        attempts.map(|attempt| attempt.cause.as_str()).filter(|cause| !cause.is_empty()).collect()
    }
}

/// Lets this much time pass: for faults that last, never for waiting until something has happened.
pub(crate) fn let_pass(duration: Duration) {
    let end = Instant::now() + duration;
    while let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
    {
        thread::park_timeout(left);
    }
}

/// What must hold of every record.
fn check_record(record: &Trajectory) {
    assert_eq!(record.content_hash, content_hash(record), "{record:#?}");
    let failed_attempts =
        record.attempts.iter().filter(|attempt| !attempt.cause.is_empty()).count();
    match &record.end {
        End::Completed { .. } | End::Truncated(_) => {
            assert!(record.reset.is_some() && !record.attempts.is_empty(), "{record:#?}");
            assert_eq!(failed_attempts, record.attempts.len() - 1, "{record:#?}");
            let last = record.attempts.last().unwrap();
            assert_eq!(last.steps as usize, record.steps.len(), "{record:#?}");
        }
        End::Failed(_) => assert_eq!(failed_attempts, record.attempts.len(), "{record:#?}"),
        _ => {}
    }
}
